"""One test of throughput as JSON on stdout.

    python -m agent.helpers.throughput '{"method": "iperf3", "server": "192.0.2.1", "seconds": 5}'

    {"down_mbps": 19.1, "up_mbps": 9.8, "bytes": 18100000}

or ``{"error": "one clear line"}``. A process of its own: it takes memory and processor time
that the agent is to have back, and it can be killed when it hangs.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

_IPERF3_PORT = "5201"
_SLACK_S = 15
_TURN_S = 10
_NOT_YET = ("the server is busy", "Connection refused", "Connection reset", "Broken pipe")
"""What a server says while it still puts away the test before: it takes one at a time."""
_UNSENT_BYTES = 16_384
_UPLOAD_SIZES = [32768, 65536, 131072, 262144, 524288, 1048576, 7340032]
_DOWNLOAD_SIZES = [350, 500, 750, 1000, 1500, 2000, 2500, 3000, 3500, 4000]

Result = dict[str, Any]


class FailedError(Exception):
    """The test gave nothing; the text is one clear line."""


def iperf3(server: str, seconds: int) -> Result:
    """Upload, then download, against an iperf3 server."""
    up = parse_iperf3(_iperf3_once(server, seconds))
    down = _download_in_turn(server, seconds)
    return {"down_mbps": down[0], "up_mbps": up[0], "bytes": up[1] + down[1]}


def _download_in_turn(server: str, seconds: int) -> tuple[float, int]:
    end_s = time.monotonic() + _TURN_S
    while True:
        try:
            return parse_iperf3(_iperf3_once(server, seconds, "--reverse"))
        except FailedError as err:
            waits = any(reason in str(err) for reason in _NOT_YET)
            if not waits or time.monotonic() > end_s:
                raise
        time.sleep(0.5)


def _iperf3_once(server: str, seconds: int, *more: str) -> str:
    host, _, port = server.partition(":")
    command = ["iperf3", "--json", "--client", host, "--port", port or _IPERF3_PORT]
    command += ["--time", str(seconds), *more]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + _SLACK_S, check=False
        ).stdout
    except FileNotFoundError:
        raise FailedError("iperf3 is not installed; apt-get install iperf3") from None
    except subprocess.TimeoutExpired:
        raise FailedError(f"iperf3 to {server}: no end after {seconds + _SLACK_S} s") from None


def parse_iperf3(text: str) -> tuple[float, int]:
    """Mbit/s and bytes that arrived, of ``iperf3 --json``.

    What was sent is no measure of a link: it counts what queues still hold.

    Raises:
        FailedError: iperf3 says why there is no result, or says nothing.
    """
    try:
        report = json.loads(text)
        if "error" in report:
            raise FailedError(f"iperf3: {report['error']}")
        received = report["end"]["sum_received"]
        return round(float(received["bits_per_second"]) / 1e6, 3), int(received["bytes"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FailedError("iperf3 gave no report") from None


def speedtest(server: str | None, seconds: int) -> Result:
    """Download, then upload, against an own mini server or the nearest public one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its own, on newer Pythons
        import speedtest as library  # type: ignore[import-untyped]  # it has no types

    class Own(library.Speedtest):  # type: ignore[misc]  # the library has no types
        """Asks nobody but the server that was named."""

        def get_config(self) -> None:
            self.lat_lon = (0.0, 0.0)
            self.config.update(
                client={"ip": "", "isp": "", "country": "", "lat": "0", "lon": "0"},
                ignore_servers=[],
                sizes={"upload": _UPLOAD_SIZES[4:], "download": _DOWNLOAD_SIZES},
                counts={"upload": 17, "download": 4},
                threads={"upload": 4, "download": 8},
                upload_max=51,
            )

    socket.create_connection = _connect(socket.create_connection)
    place = f"speedtest to {server or 'speedtest.net'}"
    try:
        test = (Own if server else library.Speedtest)(secure=True)
        test.config["length"] = {"upload": seconds, "download": seconds}
        if server:
            test.get_best_server(test.set_mini_server(server))
        else:
            test.get_servers([])
            test.get_best_server()
        requests = _Requests(test._opener.open, library.SpeedtestUploadTimeout)
        test._opener.open = requests.open
        down = test.download()
        requests.judge(f"{place}: download")
        up = test.upload(pre_allocate=False)
        requests.judge(f"{place}: upload")
    except (library.SpeedtestException, OSError, ValueError, http.client.HTTPException) as err:
        raise FailedError(f"{place}: {err!s}" if str(err) else f"{place}: {err!r}") from None
    results = test.results
    if not (results.bytes_received and results.bytes_sent):
        raise FailedError(f"{place}: nothing came back")
    return {
        "down_mbps": round(down / 1e6, 3),
        "up_mbps": round(up / 1e6, 3),
        "bytes": int(results.bytes_received + results.bytes_sent),
        "server": str(results.server.get("url", "")),
    }


def _connect(plain: Callable[..., socket.socket]) -> Callable[..., socket.socket]:
    """Connections whose buffers hold little that was not sent: the library counts it as sent."""

    def connect(*args: Any, **kwargs: Any) -> socket.socket:
        sock = plain(*args, **kwargs)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        return sock

    return connect


class _Requests:
    """Follows what the library passes over in silence: it counts what was refused as sent."""

    def __init__(self, fetch: Callable[[Any], Any], over: type[Exception]) -> None:
        self._fetch = fetch
        self._over = over
        self._good = 0
        self._failure = ""

    def open(self, request: Any) -> Any:
        try:
            answer = self._fetch(request)
        except self._over:
            self._good += 1  # the test's time ended it, nothing else
            raise
        except Exception as err:
            self._failure = str(err) or repr(err)
            raise
        self._good += 1
        return answer

    def judge(self, phase: str) -> None:
        """Begin anew; a phase without one good request gave nothing."""
        good, failure = self._good, self._failure
        self._good, self._failure = 0, ""
        if failure and not good:
            raise FailedError(f"{phase}: {failure}")


METHODS: dict[str, Callable[[Any, int], Result]] = {"speedtest": speedtest, "iperf3": iperf3}


def main() -> int:
    asked = json.loads(sys.argv[1])
    try:
        result = METHODS[asked["method"]](asked["server"], asked["seconds"])
    except FailedError as err:
        result = {"error": " ".join(str(err).split())}
    print(json.dumps(result))
    return 1 if "error" in result else 0


if __name__ == "__main__":
    sys.exit(main())
