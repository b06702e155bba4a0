import hashlib
import http.server
import json
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import pytest

from dctkd.data.fetch import transfer as download_module
from dctkd.data.fetch.official_sources import Checksum, OfficialFile
from dctkd.data.fetch.transfer import DownloadError, Patience, download, find_flaw
from dctkd.errors import InputError

CONTENT = bytes(range(256)) * 4000
QUICK = Patience(timeout_s=10.0, num_tries=3, first_pause_s=0.0)


class Site(http.server.ThreadingHTTPServer):
    """One file, with ranges; `faults` are done one per request, then `always`."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.headers = {"ETag": '"one"'}
        self.faults = []
        self.always = None
        self.seen = []
        self.release = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/data.tar"

    def next_fault(self):
        return self.faults.pop(0) if self.faults else self.always


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        site, self.close_connection = self.server, True
        site.seen.append(dict(self.headers))
        fault = site.next_fault()
        if isinstance(fault, int):
            return self.send_error(fault)
        if isinstance(fault, str) and "://" in fault:
            self.send_response(302)
            self.send_header("Location", fault)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if fault == "silent":
            return site.release.wait(20)
        return self.send_content(site, fault)

    def send_content(self, site, fault):
        start = self.range_start(site, fault)
        body = site.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
        if fault != "no length":
            self.send_header("Content-Length", str(len(body)))
        for name, value in site.headers.items():
            self.send_header(name, value)
        self.end_headers()
        half = fault in ("cut", "stall")
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.wfile.flush()
        if fault == "stall":
            site.release.wait(20)

    def range_start(self, site, fault):
        wanted = self.headers.get("Range")
        validators = (None, site.headers.get("ETag"), site.headers.get("Last-Modified"))
        if not wanted or fault == "no ranges":
            return 0
        if self.headers.get("If-Range") not in validators and fault != "no if-range":
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def site():
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "downloads" / "data.tar"


def official(*urls, content=CONTENT, **changes):
    checksum = Checksum("sha256", hashlib.sha256(content).hexdigest(), "this test")
    known = {"lands_at": "data", "expected_bytes": len(content), "checksum": checksum}
    return OfficialFile("data.tar", urls, **(known | changes))


def begin(site, target, **changes):
    """Get half of the file, as a process leaves it whose network goes away."""
    site.always = "cut"
    with pytest.raises(DownloadError):
        download(official(site.url, **changes), target, patience=Patience(num_tries=1))
    site.always = None
    return (target.parent / "data.tar.part").stat().st_size


def answers(error):
    return [attempt.answer for attempt in error.value.attempts]


def leftovers(target):
    return sorted(path.name for path in target.parent.iterdir())


def test_a_whole_file_gets_its_name_and_nothing_else_stays(site, target):
    download(official(site.url), target, patience=QUICK)
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == ["data.tar"]


def test_progress_ends_at_the_size_of_the_file(site, target):
    calls = []
    download(official(site.url), target, patience=QUICK, progress=lambda *call: calls.append(call))
    assert calls[-1] == (len(CONTENT), len(CONTENT))


def test_a_cut_connection_is_resumed_where_it_broke(site, target):
    site.faults = ["cut"]
    download(official(site.url), target, patience=QUICK)
    assert target.read_bytes() == CONTENT
    assert site.seen[1]["Range"] == f"bytes={len(CONTENT) // 2}-"


def test_a_later_call_goes_on_with_the_part(site, target):
    size = begin(site, target)
    download(official(site.url), target, patience=QUICK)
    assert target.read_bytes() == CONTENT
    assert (site.seen[-1]["Range"], site.seen[-1]["If-Range"]) == (f"bytes={size}-", '"one"')


def test_the_time_of_the_last_change_guards_a_range_where_the_etag_is_weak(site, target):
    site.headers = {"ETag": 'W/"one"', "Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT"}
    begin(site, target)
    download(official(site.url), target, patience=QUICK)
    assert site.seen[-1]["If-Range"] == "Wed, 01 Jan 2025 00:00:00 GMT"


def test_a_server_that_ignores_ranges_makes_it_start_anew_and_say_so(site, target, caplog):
    begin(site, target)
    site.always = "no ranges"
    download(official(site.url), target, patience=QUICK)
    assert target.read_bytes() == CONTENT
    assert "starting anew" in caplog.text


@pytest.mark.parametrize("fault", [None, "no if-range"])
def test_a_file_that_changed_is_fetched_anew(site, target, fault):
    begin(site, target, checksum=None)
    site.content, site.headers, site.faults = CONTENT[::-1], {"ETag": '"two"'}, [fault]
    download(official(site.url, checksum=None), target, patience=QUICK)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_part_that_no_range_fits_is_fetched_anew(site, target):
    begin(site, target)
    site.faults = [416]
    download(official(site.url), target, patience=QUICK)
    assert target.read_bytes() == CONTENT


def test_without_any_way_to_notice_a_change_nothing_is_resumed(site, target):
    site.headers = {}
    begin(site, target, checksum=None)
    download(official(site.url, checksum=None), target, patience=QUICK)
    assert "Range" not in site.seen[-1]


def test_a_part_of_another_address_is_not_resumed(site, target):
    begin(site, target)
    download(official(f"{site.url}?mirror"), target, patience=QUICK)
    assert "Range" not in site.seen[-1]


def test_a_part_that_is_whole_is_only_checked(site, target):
    begin(site, target)
    part = target.with_name("data.tar.part")
    part.write_bytes(CONTENT)
    num_requests = len(site.seen)
    download(official(site.url), target, patience=QUICK)
    assert target.read_bytes() == CONTENT
    assert len(site.seen) == num_requests


def test_wrong_bytes_get_no_name_and_both_checksums_are_told(site, target):
    site.content = b"x" + CONTENT[1:]
    with pytest.raises(DownloadError) as error:
        download(official(site.url), target, patience=QUICK)
    expected, got = (hashlib.sha256(content).hexdigest() for content in (CONTENT, site.content))
    assert expected in str(error.value)
    assert got in str(error.value)
    assert leftovers(target) == []


def test_a_web_page_in_place_of_the_file_is_called_one(site, target):
    site.content = b"<!DOCTYPE html><title>moved</title>" * 100
    with pytest.raises(DownloadError, match="web page"):
        download(official(site.url), target, patience=QUICK)


@pytest.mark.parametrize("fault", [404, 403, 410])
def test_a_file_that_is_gone_is_asked_for_once(site, target, fault):
    site.always = fault
    with pytest.raises(DownloadError, match=f"HTTP {fault}"):
        download(official(site.url), target, patience=QUICK)
    assert len(site.seen) == 1


@pytest.mark.parametrize("fault", [500, 503, 429])
def test_a_busy_server_is_asked_again(site, target, fault):
    site.faults = [fault, fault]
    download(official(site.url), target, patience=QUICK)
    assert len(site.seen) == 3


@pytest.mark.parametrize(
    ("fault", "answer"), [("silent", "within 0.3 s"), ("stall", "within 0.3 s"), (503, "HTTP 503")]
)
def test_the_number_of_tries_is_bounded(site, target, fault, answer):
    site.always = fault
    with pytest.raises(DownloadError) as error:
        download(official(site.url), target, patience=replace(QUICK, timeout_s=0.3))
    assert answer in answers(error)[0]
    assert len(site.seen) == QUICK.num_tries


def test_pauses_double(site, target, monkeypatch):
    pauses = []
    monkeypatch.setattr(download_module.time, "sleep", pauses.append)
    site.always = 503
    with pytest.raises(DownloadError):
        download(official(site.url), target, patience=Patience(num_tries=4, first_pause_s=0.5))
    assert pauses == [0.5, 1.0, 2.0]


def test_the_next_mirror_is_tried(site, target):
    site.faults = [404]
    download(official(site.url, f"{site.url}?mirror"), target, patience=QUICK)
    assert target.read_bytes() == CONTENT


def test_every_address_is_named_with_its_answer(site, target, monkeypatch):
    look_up = socket.getaddrinfo

    def answer(host, *arguments, **options):
        if host == "nowhere.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    site.always = 404
    mirror = "http://nowhere.invalid/data.tar"
    with pytest.raises(DownloadError) as error:
        download(official(site.url, mirror), target, patience=QUICK)
    assert [attempt.url for attempt in error.value.attempts] == [site.url, mirror]
    assert "HTTP 404" in answers(error)[0]
    assert "nowhere.invalid not found" in answers(error)[1]


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/data.tar", "data://text/plain,x"])
def test_redirects_stay_on_http(site, target, place):
    site.always = place
    with pytest.raises(DownloadError, match="only http and https"):
        download(official(site.url), target, patience=QUICK)
    assert leftovers(target) == []


def test_a_redirect_on_http_is_followed(site, target):
    site.faults = [f"{site.url}?elsewhere"]
    download(official(site.url), target, patience=QUICK)
    assert target.read_bytes() == CONTENT


def test_endless_redirects_end(site, target):
    site.always = site.url
    with pytest.raises(DownloadError, match="HTTP 302"):
        download(official(site.url), target, patience=QUICK)


def test_only_http_addresses_are_opened(tmp_path, target):
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    with pytest.raises(DownloadError, match="only http and https"):
        download(official(secret.as_uri()), target, patience=QUICK)


def test_a_file_that_says_it_is_too_large_is_not_begun(site, target):
    with pytest.raises(DownloadError, match=r"1024000 bytes, more than the 200 that are allowed"):
        download(official(site.url, expected_bytes=100), target, patience=QUICK)
    assert leftovers(target) == []


def test_a_file_that_hides_its_size_is_stopped_at_the_limit(site, target):
    site.always = "no length"
    with pytest.raises(DownloadError, match="sends more"):
        download(official(site.url, expected_bytes=100), target, patience=QUICK)
    assert leftovers(target) == []


def test_another_size_than_the_exact_one_is_refused(site, target):
    wanted = official(site.url, expected_bytes=len(CONTENT) + 1, is_size_exact=True)
    with pytest.raises(DownloadError, match="expected 1024001 bytes, the server has 1024000"):
        download(wanted, target, patience=QUICK)


def test_two_processes_do_not_write_one_part(site, target):
    begin(site, target)
    part = target.with_name("data.tar.part")
    code = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, part], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(InputError, match="another process"):
            download(official(site.url), target, patience=QUICK)
        other.stdin.close()
    assert part.stat().st_size == len(CONTENT) // 2


def test_a_full_disk_is_no_reason_to_ask_the_server_again(site, target, monkeypatch):
    def refuse(handle, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download_module.os, "write", refuse)
    with pytest.raises(InputError, match=r"cannot be written: No space left"):
        download(official(site.url), target, patience=QUICK)
    assert len(site.seen) == 1


def test_a_killed_download_goes_on_where_it_was(site, target):
    site.faults = ["stall"]
    code = """
        import sys
        from pathlib import Path
        from dctkd.data.fetch.transfer import download
        from dctkd.data.fetch.official_sources import Checksum, OfficialFile
        url, target, digest, size = sys.argv[1:]
        file = OfficialFile("data.tar", (url,), "data", int(size), Checksum("sha256", digest, "this test"))
        download(file, Path(target))
    """
    arguments = [site.url, str(target), hashlib.sha256(CONTENT).hexdigest(), str(len(CONTENT))]
    part = target.with_name("data.tar.part")
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *arguments]) as process:
        deadline = time.monotonic() + 20
        while not part.exists() or part.stat().st_size < len(CONTENT) // 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    site.release.set()
    assert not target.exists()
    assert json.loads(part.with_name("data.tar.part.json").read_text())["validator"] == '"one"'
    download(official(site.url), target, patience=QUICK)
    assert target.read_bytes() == CONTENT
    assert site.seen[-1]["Range"] == f"bytes={len(CONTENT) // 2}-"


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    # RFC 1321, FIPS 180-2 and RFC 3174 give these for "abc".
    [
        ("md5", "900150983cd24fb0d6963f7d28e17f72"),
        ("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ],
)
def test_published_hashes_of_abc_are_found_right(tmp_path, algorithm, digest):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert find_flaw(path, official(content=b"abc", checksum=Checksum(algorithm, digest, "its standard"))) is None
