"""Real servers on loopback that answer as a test wants, well or badly."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

UdpAnswer = Callable[[bytes], list[bytes]]
TcpAnswer = Callable[[socket.socket], None]


@contextlib.contextmanager
def udp_server(answer: UdpAnswer, address: str = "127.0.0.1") -> Iterator[str]:
    """Answers each packet with the packets that `answer` makes; yields ``ADDRESS:PORT``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        sock.settimeout(0.1)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError):  # nothing came, or the way back is cut
                    packet, sender = sock.recvfrom(4096)
                    for reply in answer(packet):
                        sock.sendto(reply, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield "{}:{}".format(*sock.getsockname())
        finally:
            stop.set()
            thread.join()


@contextlib.contextmanager
def tcp_server(answer: TcpAnswer, address: str = "127.0.0.1") -> Iterator[str]:
    """Hands one connection after the other to `answer`, then closes it; ``ADDRESS:PORT``."""
    with socket.create_server((address, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return  # shut down at the end
                with connection, contextlib.suppress(OSError):
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
