"""Where datagrams come in: sockets, the driver of the hot path, the aiocoap lane."""
