"""An OpenID provider on loopback, as a Space's sign-in talks to Hugging Face: authorise, token, signed claims, keys."""

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.app_process import SPACE


@dataclass
class Provider:
    """`sub` and `name` are who says yes next; `codes` what was promised and not yet fetched, by code."""

    url: str = ""
    sub: str = "5f1d2c3b4a"
    name: str = "ada"
    lifetime: int = 3600
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "test"}))
    codes: dict[str, dict] = field(default_factory=dict)

    def describe(self) -> dict:
        places = {"authorization": "authorize", "token": "token", "userinfo": "userinfo"}
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/oauth/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
            **{f"{name}_endpoint": f"{self.url}/oauth/{path}" for name, path in places.items()},
        }

    def authorise(self, asked: dict[str, str]) -> str:
        """The person says yes: the address to go back to."""
        assert asked["client_id"] == SPACE["OAUTH_CLIENT_ID"] and asked["scope"] == SPACE["OAUTH_SCOPES"]
        code = secrets.token_hex(8)
        self.codes[code] = {"sub": self.sub, "name": self.name, "nonce": asked.get("nonce")}
        glue = "&" if "?" in asked["redirect_uri"] else "?"
        return asked["redirect_uri"] + glue + urlencode({"code": code, "state": asked["state"]})

    def give_token(self, code: str) -> dict | None:
        """An access token and signed claims for a code, once."""
        promised = self.codes.pop(code, None)
        if promised is None:
            return None
        now = int(time.time())
        claims = {"iss": self.url, "aud": SPACE["OAUTH_CLIENT_ID"], "iat": now, "exp": now + self.lifetime}
        claims |= {**promised, "preferred_username": promised["name"], "profile": "", "picture": ""}
        return {
            "access_token": f"hf_oauth_{promised['name']}",
            "token_type": "bearer",
            "scope": SPACE["OAUTH_SCOPES"],
            "expires_in": self.lifetime,
            "id_token": jwt.encode({"alg": "RS256", "kid": "test"}, claims, self.key),
        }


@contextmanager
def running_provider() -> Iterator[Provider]:
    """Serve a provider on a port of the system's choice."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path)
            if path.path == "/oauth/authorize":
                asked = {name: values[0] for name, values in parse_qs(path.query).items()}
                self.send_response(302)
                self.send_header("Location", provider.authorise(asked))
                self.end_headers()
            elif path.path == "/.well-known/openid-configuration":
                self.answer(200, provider.describe())
            elif path.path == "/oauth/keys":
                self.answer(200, {"keys": [provider.key.as_dict(private=False)]})
            else:
                self.answer(404, {})

        def do_POST(self) -> None:
            sent = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            token = provider.give_token(sent["code"][0])
            self.answer(200 if token else 400, token or {"error": "invalid_grant"})

        def answer(self, status: int, value: dict) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
