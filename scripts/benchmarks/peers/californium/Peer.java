import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.concurrent.TimeUnit;
import org.eclipse.californium.core.CoapResource;
import org.eclipse.californium.core.CoapServer;
import org.eclipse.californium.core.coap.CoAP.ResponseCode;
import org.eclipse.californium.core.config.CoapConfig;
import org.eclipse.californium.core.network.CoapEndpoint;
import org.eclipse.californium.core.server.resources.CoapExchange;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.californium.proxy2.config.Proxy2Config;
import org.eclipse.californium.proxy2.http.HttpClientFactory;
import org.eclipse.californium.proxy2.resources.ProxyCoapResource;
import org.eclipse.californium.scandium.DTLSConnector;
import org.eclipse.californium.scandium.config.DtlsConfig;
import org.eclipse.californium.scandium.config.DtlsConfig.DtlsRole;
import org.eclipse.californium.scandium.config.DtlsConnectorConfig;
import org.eclipse.californium.scandium.dtls.cipher.CipherSuite;
import org.eclipse.californium.scandium.dtls.pskstore.AdvancedMultiPskStore;

/**
 * Californium behind Scandium: POST /v is answered 2.04 at once, or, with an address, by what a
 * reverse proxy gets from there.
 *
 * Arguments: port, key, and perhaps the HTTP address. Says a line when it listens. Settings are
 * those of Californium's own servers for many clients (its extended plugtest server), otherwise
 * the defaults, which use all cores.
 */
public final class Peer {
  private static final int DEVICES = 10_000;

  public static void main(String[] arguments) throws Exception {
    CoapConfig.register();
    DtlsConfig.register();
    Proxy2Config.register();
    Configuration configuration = new Configuration();
    configuration.set(CoapConfig.MAX_ACTIVE_PEERS, 1_000_000);
    configuration.set(CoapConfig.DEDUPLICATOR, CoapConfig.DEDUPLICATOR_PEERS_MARK_AND_SWEEP);
    configuration.set(CoapConfig.PEERS_MARK_AND_SWEEP_MESSAGES, 16);
    configuration.set(Proxy2Config.HTTP_CONNECTION_IDLE_TIMEOUT, 10, TimeUnit.SECONDS);
    configuration.set(DtlsConfig.DTLS_ROLE, DtlsRole.SERVER_ONLY);
    configuration.set(DtlsConfig.DTLS_MAX_CONNECTIONS, 1_000_000);
    configuration.set(DtlsConfig.DTLS_RECEIVE_BUFFER_SIZE, 1_000_000);
    configuration.set(DtlsConfig.DTLS_RECOMMENDED_CIPHER_SUITES_ONLY, false);
    configuration.setAsList(
        DtlsConfig.DTLS_CIPHER_SUITES, CipherSuite.TLS_PSK_WITH_AES_128_CCM_8);
    HttpClientFactory.setNetworkConfig(configuration);
    Configuration.setStandard(configuration);

    AdvancedMultiPskStore keys = new AdvancedMultiPskStore();
    for (int number = 0; number < DEVICES; number++) {
      keys.setKey("bench-" + number, arguments[1].getBytes());
    }
    int port = Integer.parseInt(arguments[0]);
    DtlsConnectorConfig dtls =
        DtlsConnectorConfig.builder(configuration)
            .setAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), port))
            .setAdvancedPskStore(keys)
            .build();
    CoapServer server = new CoapServer(configuration);
    server.addEndpoint(
        CoapEndpoint.builder()
            .setConfiguration(configuration)
            .setConnector(new DTLSConnector(dtls))
            .build());
    server.add(
        arguments.length < 3
            ? new Sink("v")
            // Not accepted first: the response goes with the acknowledgement when it is in time.
            : ProxyCoapResource.createReverseProxy(
                "v", true, false, false, URI.create(arguments[2])));
    server.start();
    System.out.println("ready");
  }

  private static final class Sink extends CoapResource {
    Sink(String name) {
      super(name);
    }

    @Override
    public void handlePOST(CoapExchange exchange) {
      exchange.respond(ResponseCode.CHANGED);
    }
  }
}
