"""The server behind reverse proxies: where it says that it is, and what it still refuses."""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import re
import secrets
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from fakes import ColourModel
from fastapi.testclient import TestClient
from live import listening
from PIL import Image

import wordsight
from wordsight.web.address import Address
from wordsight.web.app import create_app

HOWTO = Path(__file__).resolve().parents[1] / "docs/how-to/reverse-proxy.md"
PUBLIC = "https://photos.example.org:8443"
HTML = {"accept": "text/html,*/*;q=0.8"}


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (20, 20, 220)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def library(tmp_path: Path, photos: Callable[..., Path], model: ColourModel) -> wordsight.Library:
    made = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    made.index(photos(red=3, blue=3))
    return made


# -- addresses


@pytest.mark.parametrize(
    ("url", "root", "origin", "path"),
    [
        ("https://photos.example.org", None, "https://photos.example.org", ""),
        ("https://photos.example.org:443/", None, "https://photos.example.org", ""),
        ("http://Host.example:8080/a/b/", None, "http://host.example:8080", "/a/b"),
        ("https://[::1]:9000/photos", None, "https://[::1]:9000", "/photos"),
        ("https://example.org/photos", "/other", "https://example.org", "/other"),
        (None, "/photos/", "None", "/photos"),
        (None, "/", "None", ""),
    ],
)
def test_addresses(url: str | None, root: str | None, origin: str, path: str) -> None:
    address = Address.of(url, root)
    assert (str(address.origin), address.root_path) == (origin, path)


@pytest.mark.parametrize(
    ("url", "root"),
    [
        *((url, None) for url in ("photos.example.org", "", "ftp://x", "https://", "https://[")),
        *((f"https://example.org{rest}", None) for rest in ("?q", "#f", "/a b", "/../x", ":0x")),
        ("https://me@example.org", None),
        *((None, root) for root in ("photos", "//evil.example", "/a/../b", "/a%2f", "/a\n")),
        *((None, root) for root in ("/api", "/static/x", "/login", "/metrics")),
    ],
)
def test_what_is_no_address_is_refused(url: str | None, root: str | None) -> None:
    with pytest.raises(ValueError, match=r"root path|server address"):
        Address.of(url, root)


def test_the_command_refuses_them_in_one_line(
    library: wordsight.Library, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, value in (
        ("--public-url", "photos.example.org"),
        ("--root-path", "photos"),
        ("--trusted-proxy", "localhost"),
        ("--trusted-proxy", "*"),
        ("--trusted-proxy", ""),
    ):
        with pytest.raises(SystemExit) as end:
            wordsight_main("serve", "--library", str(library.path), option, value)
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert value in line


def wordsight_main(*arguments: str) -> None:
    from wordsight.cli import main

    main(list(arguments))


def test_the_command_says_where_it_is_found(
    library: wordsight.Library, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who can be reached by others asks for a token, behind a proxy too."""
    ran: list[Any] = []
    monkeypatch.setattr("wordsight.web.server.serve", lambda *given: ran.append(given))
    monkeypatch.setattr("wordsight.cli.serve.open_library", lambda *_: library)

    def told(*options: str) -> Any:
        with pytest.raises(SystemExit) as end:
            wordsight_main("serve", "--port", "0", "--json", *options)
        assert end.value.code == 0
        return json.loads(capsys.readouterr().out)

    found = told("--public-url", "https://example.org/photos", "--trusted-proxy", "10.1.2.3/8")
    assert found["url"].startswith("https://example.org/photos/login/")
    assert found["api"] == "https://example.org/photos/api/v1"
    assert found["token"]
    assert found["listens"].startswith("http://127.0.0.1:")
    _, listener, proxies = ran.pop()
    assert proxies == ["10.0.0.0/8"]
    listener.close()
    assert not told("--root-path", "/photos")["token"]  # nobody else reaches it
    assert not told("--public-url", "http://localhost:8080")["token"]


# -- paths


@pytest.mark.filterwarnings("error::UserWarning")  # FastAPI's own root_path is deprecated
@pytest.mark.parametrize("sent", ["/photos", ""], ids=["passed on", "removed"])
def test_below_a_path(library: wordsight.Library, sent: str) -> None:
    app = create_app(library, address=Address.of(root_path="/photos"))
    with TestClient(app, base_url="http://localhost") as client:
        page = client.get(f"{sent}/")
        for link in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert not link.startswith("/")
            assert client.get(urljoin(f"{sent}/", link)).status_code == 200, link
        assert client.get(f"{sent}/api/v1/search?q=red&anyway=true").json()["hits"]
        about = client.get(f"{sent}/api/v1/openapi.json").json()
        assert about["servers"] == [{"url": "/photos"}]
        assert client.get(f"{sent}/static/../api/v1/health").status_code in (200, 404)
        assert client.get(f"{sent}/nowhere").status_code == 404
    moved = TestClient(app, base_url="http://localhost").get("/photos", follow_redirects=False)
    assert moved.headers["location"] == "/photos/"


@pytest.mark.parametrize("root", ["", "/photos"])
@pytest.mark.parametrize("sent", ["/photos", ""], ids=["passed on", "removed"])
def test_the_login_leads_back_from_everywhere(
    library: wordsight.Library, root: str, sent: str
) -> None:
    """Also where a proxy removes a path of which the server does not know."""
    if sent and not root:
        return  # the server can know of no path that it was not told
    app = create_app(library, token="right", address=Address.of(root_path=root))
    shown = "/photos" if root or not sent else ""  # where the browser is
    with TestClient(app, base_url="http://localhost") as client:
        for path in ("/", "/?q=red", "/api/v1/search?q=a/b", "/login/wrong"):
            answer = client.get(sent + path, headers=HTML)
            here = "http://localhost" + shown + path
            if path == "/login/wrong":
                to = answer.headers["refresh"].partition("url=")[2]
                assert urljoin(here, to) == f"http://localhost{shown}/"
                continue
            assert answer.status_code == 401
            (action,) = re.findall(r'action="([^"]+)"', answer.text)
            assert urljoin(here, action) == f"http://localhost{shown}/login", path
            for link in re.findall(r'href="([^"]+)"', answer.text):
                assert urljoin(here, link).startswith(f"http://localhost{shown}/static/")
        back = client.post(f"{sent}/login", data={"token": "right"}, follow_redirects=False)
        assert urljoin(f"http://localhost{shown}/login", back.headers["location"]) == (
            f"http://localhost{shown}/"
        )
        assert f"Path={root}/;" in back.headers["set-cookie"]


def test_files_for_all_are_no_way_round_the_token(library: wordsight.Library) -> None:
    app = create_app(library, token="right", address=Address.of(root_path="/photos"))
    with listening(app) as url:
        for path in (
            "/photos/static/../api/v1/library",
            "/static/../photos/api/v1/library",
            "/photos/static/%2e%2e/api/v1/library",
            "/photos/photos/static/../../api/v1/library",
            "//static/../api/v1/library",
        ):
            with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as asking:
                asking.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                assert re.match(rb"HTTP/1.1 4\d\d", asking.recv(4096)), path


def test_head_answers_as_get_does_without_the_body(library: wordsight.Library) -> None:
    app = create_app(library)
    with TestClient(app, base_url="http://localhost") as client:
        for path in ("/", "/metrics", "/api/v1/library", "/api/v1/search?q=red", "/static/page.js"):
            head, got = client.head(path), client.get(path)
            assert (head.status_code, head.content) == (200, b""), path
            if path not in ("/metrics", "/api/v1/search?q=red"):  # these tell of times
                assert head.headers["content-length"] == got.headers["content-length"]
        assert client.head("/api/v1/images/0123456789abcdef").status_code == 404
        assert 'method="HEAD",route="/",status="200"' in client.get("/metrics").text
    with listening(app) as url:
        request = urllib.request.Request(f"{url}/", method="HEAD")
        with urllib.request.urlopen(request) as answer:
            assert (answer.status, answer.read()) == (200, b"")


# -- attacks


@pytest.fixture
def behind(library: wordsight.Library) -> Iterator[TestClient]:
    app = create_app(library, address=Address.of(PUBLIC))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        # As nginx passes it on with Host $host, $http_host, and with none.
        ("photos.example.org", {"origin": PUBLIC, "sec-fetch-site": "same-origin"}),
        ("photos.example.org:8443", {"origin": PUBLIC, "sec-fetch-site": "same-origin"}),
        ("127.0.0.1:8000", {"origin": PUBLIC, "sec-fetch-site": "same-origin"}),
        ("photos.example.org", {"origin": PUBLIC}),  # browsers before 2023
        ("127.0.0.1:8000", {"origin": PUBLIC}),
        # The browser's word, where the public URL is not quite that of the address bar.
        (
            "photos.example.org",
            {"origin": "https://photos.example.org", "sec-fetch-site": "same-origin"},
        ),
        ("localhost:8000", {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}),
        ("localhost:8000", {"origin": "http://localhost:8000"}),
        ("localhost:8000", {}),  # a program
    ],
)
def test_the_page_is_let_in(behind: TestClient, host: str, headers: dict[str, str]) -> None:
    answer = behind.post("/api/v1/search", content=picture(), headers={"host": host, **headers})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        # Other sites, other ports and schemes of this host, in old browsers and new ones.
        ("photos.example.org", {"origin": "https://evil.example"}),
        ("photos.example.org", {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}),
        ("photos.example.org", {"origin": "https://photos.example.org:3000"}),
        ("photos.example.org", {"origin": "https://photos.example.org"}),
        ("photos.example.org", {"origin": "http://photos.example.org"}),
        ("photos.example.org:8443", {"origin": "http://photos.example.org:8443"}),
        ("photos.example.org", {"origin": "https://photos.example.org.evil.example:8443"}),
        ("photos.example.org", {"origin": "https://photos.example.org:8443@evil.example"}),
        ("photos.example.org", {"origin": PUBLIC, "sec-fetch-site": "same-site"}),
        ("photos.example.org", {"origin": PUBLIC, "sec-fetch-site": "cross-site"}),
        ("photos.example.org", {"origin": "null"}),
        ("photos.example.org", {"origin": "null", "sec-fetch-site": "same-origin"}),
        ("photos.example.org", {"origin": ""}),
        ("photos.example.org", {"sec-fetch-site": "cross-site"}),
        ("localhost:8000", {"origin": "http://localhost:3000"}),
        # DNS rebinding through a proxy that puts its own Host in place of the attacker's: to the
        # browser all is of one origin.
        ("127.0.0.1:8000", {"origin": "http://evil.example"}),
        ("127.0.0.1:8000", {"origin": "https://evil.example", "sec-fetch-site": "same-origin"}),
    ],
)
def test_other_sites_are_refused(behind: TestClient, host: str, headers: dict[str, str]) -> None:
    answer = behind.post("/api/v1/search", content=picture(), headers={"host": host, **headers})
    assert answer.status_code == 403
    assert "--public-url" in answer.json()["detail"]


@pytest.mark.parametrize("proxies", [(), ("127.0.0.1",)], ids=["no proxy", "trusted"])
def test_no_header_makes_another_host_ours(
    library: wordsight.Library, proxies: tuple[str, ...]
) -> None:
    """DNS rebinding: scripts of a page may set any of these, and many proxies pass them on."""
    app = create_app(library, address=Address.of(PUBLIC))
    with listening(app, proxies=proxies) as url:
        for header in (
            {"X-Forwarded-Host": "photos.example.org"},
            {"X-Forwarded-Host": "localhost", "X-Forwarded-Proto": "https"},
            {"Forwarded": "host=photos.example.org;proto=https"},
            {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1"},
            {"X-Original-Host": "localhost"},
            {"Origin": PUBLIC, "Sec-Fetch-Site": "same-origin"},
        ):
            asked = httpx.get(f"{url}/api/v1/library", headers={"Host": "evil.example", **header})
            assert asked.status_code == 400, header
        prefixed = {"X-Forwarded-Prefix": "/static/..", "X-Script-Name": "/x"}
        assert httpx.get(f"{url}/api/v1/health", headers=prefixed).status_code == 200
        assert "/x" not in httpx.get(f"{url}/api/v1/openapi.json", headers=prefixed).text


def test_forwarded_headers_are_believed_from_named_proxies_alone(
    library: wordsight.Library,
) -> None:
    """Then the cookie is for HTTPS alone, and a page by HTTP is another site."""
    app = create_app(library, token="right")
    https = {"X-Forwarded-Proto": "https"}
    for proxies, believed in (((), False), (("127.0.0.1",), True), (("10.0.0.0/8",), False)):
        with listening(app, proxies=proxies) as url:
            came = httpx.post(f"{url}/login", data={"token": "right"}, headers=https)
            assert came.status_code == 303
            assert ("Secure" in came.headers["set-cookie"]) is believed
            plain = {**https, "Origin": url, "Authorization": "Bearer right"}
            sent = httpx.post(f"{url}/api/v1/search", content=picture(), headers=plain)
            assert sent.status_code == (403 if believed else 200)


def test_the_cookie_is_for_https_where_the_public_url_is(library: wordsight.Library) -> None:
    app = create_app(library, token="right", address=Address.of(f"{PUBLIC}/photos"))
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:
        told = {"data": {"token": "right"}}
        cookie = client.post("/login", **told, headers={"host": "photos.example.org"})
        assert "Secure" in cookie.headers["set-cookie"]
        assert "Path=/photos/;" in cookie.headers["set-cookie"]
        assert "Secure" not in client.post("/login", **told).headers["set-cookie"]


# -- real proxies, with the configurations of the how-to


class Gated(ColourModel):
    """Encodes when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def encode_pixels(self, pixels: Any) -> Any:
        assert self.gate.wait(60)
        return super().encode_pixels(pixels)


def configuration(language: str, number: int) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", HOWTO.read_text(), re.M | re.S)
    assert len(found) == 2
    return str(found[number])


def changed(text: str, *changes: tuple[str, str]) -> str:
    """What must differ here: ports, and where the certificate lies."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def free_port() -> int:
    """One below those that systems hand out by themselves: nobody else is given it meanwhile."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def nginx(folder: Path, number: int, port: int, backend: str) -> list[str]:
    certificate = str(folder / "photos.pem"), str(folder / "photos.key")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"),
            *("-out", certificate[0], "-keyout", certificate[1]),
        ],
        check=True,
        capture_output=True,
    )
    block = configuration("nginx", 0)
    if number:  # the same server, with the other location
        block = re.sub(r"    location / \{.*?^    \}\n", "", block, flags=re.M | re.S)
        block = block.rstrip().removesuffix("}") + configuration("nginx", 1) + "}\n"
    block = changed(
        block,
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/photos.pem", certificate[0]),
        ("/etc/ssl/photos.key", certificate[1]),
        ("http://127.0.0.1:8000", backend),
    )
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; user {getpass.getuser()}; pid {folder}/pid; error_log {folder}/log;\n"
        "events {}\n"
        f"http {{ access_log off;\n{temporary}{block}}}\n"
    )
    return [program("nginx") or "", "-e", f"{folder}/log", "-c", f"{folder}/nginx.conf"]


def caddy(folder: Path, number: int, port: int, backend: str) -> list[str]:
    site = changed(
        configuration("caddyfile", number), ("127.0.0.1:8000", backend.removeprefix("http://"))
    )
    (folder / "Caddyfile").write_text(
        f"{{\nadmin off\nlocal_certs\nskip_install_trust\nauto_https disable_redirects\n"
        f"default_bind 127.0.0.1\nhttps_port {port}\nhttp_port {free_port()}\n"
        f"storage file_system {folder}/caddy\n}}\n{site}"
    )
    return [program("caddy") or "", "run", "--config", f"{folder}/Caddyfile"]


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def running(command: list[str], folder: Path, port: int) -> Iterator[None]:
    with (folder / "output").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        for _ in range(300):
            assert process.poll() is None, (folder / "output").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("number", [0, 1], ids=["a host of its own", "below a path"])
@pytest.mark.parametrize("proxy", [nginx, caddy], ids=["nginx", "caddy"])
def test_through_a_real_proxy(
    proxy: Callable[..., list[str]],
    number: int,
    tmp_path: Path,
    photos: Callable[..., Path],
) -> None:
    name = proxy.__name__
    if not program(name) or (name == "nginx" and not program("openssl")):
        pytest.skip(f"{name} is not installed")
    model = Gated()
    library = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    library.index(photos(red=3))
    more = photos("more", blue=200)
    port, behind = free_port(), free_port()
    host = "example.org" if number and name == "caddy" else "photos.example.org"
    root = "/photos" if number else ""
    public = f"https://{host}:{port}"
    address = Address.of(public + root)
    app = create_app(library, token="right", address=address, allow_index=[more])
    command = proxy(tmp_path, number, port, f"http://127.0.0.1:{behind}")
    with (
        listening(app, behind, ("127.0.0.1",)),
        running(command, tmp_path, port),
        httpx.Client(verify=False, timeout=60) as client,
    ):

        def ask(method: str, path: str, own: str = f"{host}:{port}", **options: Any) -> Any:
            headers = {"Host": own, **options.pop("headers", {})}
            sni = {"sni_hostname": host}
            url = f"https://127.0.0.1:{port}{path}"
            request = client.build_request(method, url, headers=headers, extensions=sni, **options)
            for _ in range(100):  # Caddy listens before its certificate is made
                with contextlib.suppress(httpx.ConnectError):
                    return client.send(request)
                time.sleep(0.1)
            return client.send(request)

        bare = ask("GET", root or "/", headers=HTML)
        if root:
            assert bare.status_code in (301, 302, 307)
            assert urljoin(f"{public}{root}", bare.headers["location"]) == f"{public}{root}/"
        asked = ask("GET", f"{root}/", headers=HTML)
        assert asked.status_code == 401
        for link in re.findall(r'(?:href)="([^"]+)"', asked.text):
            assert ask("GET", urljoin(f"{root}/", link)).status_code == 200
        (action,) = re.findall(r'action="([^"]+)"', asked.text)
        own = {"Origin": public}
        came = ask("POST", urljoin(f"{root}/", action), data={"token": "right"}, headers=own)
        assert came.status_code == 303, came.text
        cookie = came.headers["set-cookie"]
        assert "Secure" in cookie
        assert f"Path={root}/;" in cookie
        own["Cookie"] = cookie.partition(";")[0]
        client.cookies.clear()  # it goes with what says so alone

        page = ask("GET", f"{root}/", headers=own)
        assert page.status_code == 200
        for link in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert ask("GET", urljoin(f"{root}/", link), headers=own).status_code == 200, link
        head = ask("HEAD", f"{root}/", headers=own)
        assert (head.status_code, head.content) == (200, b"")

        api = f"{root}/api/v1"
        large = picture() + b"\0" * (15 << 20)  # nginx by itself refuses more than 1 MB
        found = ask("POST", f"{api}/search?k=1&anyway=true", content=large, headers=own)
        assert found.status_code == 200, found.text
        (folder,) = ask("GET", f"{api}/index/folders", headers=own).json()["folders"]

        # Attacks: another site with the browser's cookie, and another name (DNS rebinding).
        evil = {**own, "Origin": "https://evil.example"}
        assert ask("POST", f"{api}/search", content=picture(), headers=evil).status_code == 403
        elsewhere = {**own, "Sec-Fetch-Site": "same-site"}
        assert ask("POST", f"{api}/evaluation", headers=elsewhere).status_code == 403
        posed = {"X-Forwarded-Host": host, "Forwarded": f"host={host}"}
        for more_headers in ({}, posed):
            rebound = ask("GET", f"{api}/library", "evil.example", headers={**own, **more_headers})
            assert "images" not in rebound.text  # nginx asks us, who refuse; Caddy knows no such
        assert ask("GET", f"{api}/library").status_code == 401

        # Events come while the job runs, not at its end.
        model.gate.clear()
        told = {"json": {"folder": folder["id"]}, "headers": own}
        job = ask("POST", f"{api}/index/jobs", **told).json()["id"]
        stream = client.build_request(
            "GET",
            f"https://127.0.0.1:{port}{api}/index/jobs/{job}/events",
            headers={"Host": f"{host}:{port}", **own},
            extensions={"sni_hostname": host},
        )
        events = client.send(stream, stream=True)
        lines = events.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["state"] == "running"
        model.gate.set()
        last = [line for line in lines if line.startswith("data: ")][-1]
        assert json.loads(last.removeprefix("data: "))["state"] == "done"
        events.close()
