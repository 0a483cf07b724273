from __future__ import annotations

from cryptography.x509.oid import ExtendedKeyUsageOID

from certs import profiles

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


def test_the_table_has_every_role_and_not_the_authority() -> None:
    assert set(profiles.PROFILES) == {
        "gateway",
        "cloud-store",
        "patient",
        "doctor",
        "alarm-centre",
        "admin",
        "auditor",
        "device",
    }


def test_only_the_gateway_is_both_client_and_server() -> None:
    assert profiles.GATEWAY.usages == (CLIENT, SERVER)
    assert profiles.CLOUD_STORE.usages == (SERVER,)
    others = (*profiles.RECIPIENTS, profiles.DEVICE)
    assert all(profile.usages == (CLIENT,) for profile in others)


def test_only_servers_have_hosts() -> None:
    servers = {profile.role for profile in profiles.PROFILES.values() if profile.hosts}
    assert servers == {"gateway", "cloud-store"}
