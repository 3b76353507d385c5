"""Real servers on loopback that answer as a test wants, well or badly."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

UdpAnswer = Callable[[bytes], list[bytes]]
TcpAnswer = Callable[[socket.socket], None]


@contextlib.contextmanager
def udp_server(answer: UdpAnswer) -> Iterator[str]:
    """Answers each packet with the packets that `answer` makes; yields ``ADDRESS:PORT``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                packet, sender = sock.recvfrom(4096)
                if not packet:  # our own, at the end
                    return
                for reply in answer(packet):
                    sock.sendto(reply, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield "{}:{}".format(*sock.getsockname())
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", sock.getsockname())
            thread.join()


@contextlib.contextmanager
def tcp_server(answer: TcpAnswer) -> Iterator[str]:
    """Hands the first connection to `answer`, which closes it; yields ``ADDRESS:PORT``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # nobody came
            with connection, contextlib.suppress(ConnectionError):
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield "{}:{}".format(*listener.getsockname())
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def unused_udp() -> str:
    """``ADDRESS:PORT`` where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return "{}:{}".format(*sock.getsockname())


def unused_tcp() -> str:
    """``ADDRESS:PORT`` that refuses connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return "{}:{}".format(*sock.getsockname())
