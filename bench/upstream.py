"""The fake upstream: nginx with its answers on disk, and `bench.slow` for what nginx cannot do; and the reference."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pybase64
import yaml
from PIL import Image

from bench.scenarios import EDGES, UPLOADS

BOUNDARY = "pictor-bench"
LINE = '{"created":1700000000,"data":[{"url":"URL"}]}'

HTTP = """
worker_processes 1; daemon off; master_process off; pid ROOT/NAME.pid; error_log ROOT/NAME.log;
events { worker_connections 2048; }
http {
  access_log off; keepalive_requests 1000000000; client_max_body_size 0; default_type application/json;
  client_body_temp_path ROOT; proxy_temp_path ROOT; fastcgi_temp_path ROOT; uwsgi_temp_path ROOT; scgi_temp_path ROOT;
  sendfile on; tcp_nopush on; open_file_cache max=100;
BODY
}
"""

ANSWERS = """
  server {
    listen 127.0.0.1:FILES; root ROOT;
    location /small/ { return 200 '%(small)s'; }
    location /link/ { return 200 '%(link)s'; }
    location / { error_page 405 =200 $uri; }
    location /b64-1/ { rewrite ^ /openai-1.json last; }
    location /b64-4/ { rewrite ^ /openai-4.json last; }
    location /b64-16/ { rewrite ^ /openai-16.json last; }
    location ~ /size-(1|4|16):generateContent$ { rewrite /size-(\\d+): /gemini-$1.json last; }
  }
"""

# As quick as it can be made: connections are kept, nothing is written to disk, an upload is passed on as it comes.
PROXY = """
  upstream files { server 127.0.0.1:FILES; keepalive 512; keepalive_requests 1000000000; }
  upstream slow { server 127.0.0.1:SLOW; keepalive 512; keepalive_requests 1000000000; }
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off; client_body_buffer_size 1m;
  proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_busy_buffers_size 256k; proxy_max_temp_file_size 0;
  server {
    listen 127.0.0.1:PROXY;
    location / { proxy_pass http://files; }
    location /slow/ { proxy_pass http://slow; }
    location /edit/ { proxy_pass http://slow; }
  }
"""


class Ports(msgspec.Struct, frozen=True):
    """Where everything listens on the loopback."""

    files: int = 18_801
    slow: int = 18_802
    proxy: int = 18_803
    pictor: int = 18_804
    maker: int = 18_805


def prepare(root: Path, ports: Ports) -> None:
    """Write answers, uploads, and the configurations of nginx and Pictor."""
    for size, edge in EDGES.items():
        picture = noise(edge, edge)
        base64 = pybase64.b64encode(picture)
        (root / f"openai-{size}.json").write_bytes(b'{"created":1700000000,"data":[{"b64_json":"' + base64 + b'"}]}')
        (root / f"gemini-{size}.json").write_bytes(
            b'{"candidates":[{"content":{"role":"model","parts":[{"inlineData":{"mimeType":"image/png","data":"'
            + base64
            + b'"}}]},"finishReason":"STOP"}]}'
        )
        (root / f"picture-{size}.png").write_bytes(picture)
    for size, (width, height) in UPLOADS.items():
        (root / f"upload-{size}").write_bytes(form(noise(width, height)))
    small = answer("https://pictures.example/" + "a" * (250 - len(answer("https://pictures.example/"))))
    link = answer(f"http://127.0.0.1:{ports.files}/picture-4.png")
    filled = ANSWERS % {"small": small, "link": link}
    for name, body in (("answers", filled), ("proxy", PROXY)):
        text = HTTP.replace("BODY", body).replace("ROOT", str(root)).replace("NAME", name)
        for port in msgspec.structs.fields(Ports):
            text = text.replace(f":{port.name.upper()}", f":{getattr(ports, port.name)}")
        (root / f"{name}.conf").write_text(text)
    (root / "config.yaml").write_text(yaml.safe_dump(config(root, ports)))


def answer(url: str) -> str:
    return LINE.replace("URL", url)


def noise(width: int, height: int) -> bytes:
    """A picture of random pixels, stored as they are: three bytes each."""
    out = io.BytesIO()
    Image.frombytes("RGB", (width, height), os.urandom(width * height * 3)).save(out, "PNG", compress_level=0)
    return out.getvalue()


def form(picture: bytes) -> bytes:
    """An edit as the SDKs send it, for the model `edit/m`."""
    fields = {"model": "edit/m", "prompt": "Make it blue", "response_format": "url"}
    text = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    text.append(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    return "".join(text).encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()


def config(root: Path, ports: Ports) -> Mapping[str, Any]:
    """Pictor's: a provider per kind of answer."""
    model = {"ops": ["generate", "edit"], "max_images": 1}

    def lab(port: int, path: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{port}/{path}/v1"
        return {"translator": "openai", "base_url": url, "api_key": "none", "models": {"m": model}}

    at_files = ("small", "link", *(f"b64-{size}" for size in EDGES))
    providers = {path: lab(ports.files, path) for path in at_files}
    providers |= {path: lab(ports.slow, path) for path in ("slow", "edit")}
    providers["gemini"] = {
        "base_url": f"http://127.0.0.1:{ports.files}/gemini/v1beta",
        "api_key": "none",
        "models": {f"size-{size}": {"ops": ["generate"]} for size in EDGES},
    }
    return {
        "server": {"port": ports.pictor},
        "auth": {"mode": "open"},
        "data": str(root / "data"),
        "files": {"hosting": "passthrough"},
        "history": {"enabled": False},  # what that costs is measured by `bench.state`
        "log": {"level": "warning"},
        "providers": providers,
    }
