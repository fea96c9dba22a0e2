from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

import translators
from proxy import config, plain
from proxy.config import Config, ConfigError, Tier
from translators import demo
from translators.base import Provider, Secret

SECRET = "sk-never-show-this"
ACCOUNT = {
    "type": "service_account",
    "client_email": "a@b.example",
    "private_key": SECRET,
    "private_key_id": "1",
    "project_id": "my-project",
    "token_uri": "https://token.example/",
}


def load(tmp_path: Path, text: str, env: Mapping[str, str] | None = None) -> Config:
    file = tmp_path / "config.yaml"
    file.write_text(textwrap.dedent(text))
    return config.load(file, env or {})


def flaws(tmp_path: Path, text: str, env: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, env)
    assert str(caught.value) == "\n".join(caught.value.flaws)
    return caught.value.flaws


# ---- without a file


def test_the_environment_alone_is_enough() -> None:
    found = config.load(None, {})
    assert (found.server.host, found.server.port, found.auth.mode) == ("127.0.0.1", 8000, "auto")
    assert [name for name, given in found.providers.items() if not given.off] == ["demo"]
    assert found.providers["openai"].off == "OPENAI_API_KEY is not set"


def test_a_secret_that_ends_with_its_files_last_line() -> None:
    found = config.load(None, {"PICTOR_KEY": f"{SECRET}\n", "OPENAI_API_KEY": f" {SECRET}\r\n"})
    assert found.auth.keys[0].key == found.providers["openai"].logins[0].secret == Secret(SECRET)


def test_the_environment_says_where_and_who() -> None:
    env = {"PICTOR_HOST": "0.0.0.0", "PICTOR_PORT": "81", "PICTOR_KEY": SECRET, "PICTOR_DATA": "/srv"}
    found = config.load(None, env)
    assert (found.server.host, found.server.port, found.data) == ("0.0.0.0", 81, "/srv")
    assert found.auth.mode == "keys"
    assert found.auth.keys[0].key == Secret(SECRET)
    assert found.auth.keys[0].admin


def test_overrides_win_and_are_checked_with_the_rest() -> None:
    assert config.load(None, {}, {"server": {"port": 9000}}).server.port == 9000
    with pytest.raises(ConfigError, match=r"auth.mode: open on 0.0.0.0 would let anybody spend"):
        config.load(None, {}, {"server": {"host": "0.0.0.0"}})


def test_a_provider_is_on_where_its_variable_is_set() -> None:
    found = config.load(None, {"BFL_API_KEY": SECRET, "OPENAI_API_KEY": ""})
    bfl = found.providers["bfl"]
    assert not bfl.off
    assert [login.secret.key for login in bfl.logins] == [SECRET]
    assert found.providers["openai"].off
    assert found.providers["demo"].off


# ---- the file


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        """
        server: {host: "::1", port: 9000, public_url: "https://pictor.example", workers: 2, drain_seconds: 2m}
        auth: {mode: keys, keys: [{name: a, key: k1, models: ["demo/*"]}, {name: b, key: k2, admin: true}]}
        metrics: {open: true}
        data: /srv/pictor
        files: {retention: null, url_seconds: 1.5h, hosting: passthrough}
        fetch: {allow: [media.lan, 10.0.0.0/8], max_bytes: 20MiB, seconds: 500ms}
        limits: {body_bytes: 1GB, image_bytes: 1048576, image_pixels: 12 MP, images: 4}
        prices: {usd_per_cny: 0.14}
        log: {level: debug, format: text}
        default_model: demo/painter
        providers:
          demo: {concurrency: 2, per_minute: 30, timeouts: {video: 1h}}
        tiers: {gold: {priority: 100}, plain: {}}
        default_video_model: demo/animation
        models: {mine: demo/painter, other: {targets: [{model: demo/painter, weight: 2}], fallback_on: [rate]}}
        """,
    )
    assert found.server == config.Server(
        host="::1", port=9000, public_url="https://pictor.example", workers=2, drain_seconds=120
    )
    assert [key.name for key in found.auth.keys] == ["a", "b"]
    assert (found.files.url_seconds, found.files.hosting) == (5400, "passthrough")
    assert (found.fetch.max_bytes, found.fetch.seconds) == (20 << 20, 0.5)
    assert (found.limits.body_bytes, found.limits.image_bytes, found.limits.image_pixels) == (
        10**9,
        1 << 20,
        12 * 10**6,
    )
    assert found.models["mine"].targets == (config.AliasTarget(model="demo/painter"),)
    assert found.models["other"].fallback_on == frozenset({"rate"})
    demo = found.providers["demo"]
    assert (demo.concurrency, demo.per_minute, demo.timeouts.video) == (2, 30, 3600)
    assert [tier.priority for tier in found.tiers.values()] == [100, 0]
    assert found.default_video_model == "demo/animation"


def test_retention_for_ever(tmp_path: Path) -> None:
    assert load(tmp_path, "files: {retention: null}").files.retention is None
    assert load(tmp_path, "files: {}").files.retention == 30 * 86_400
    assert load(tmp_path, "").files.retention == 30 * 86_400


def test_all_faults_at_once_each_with_its_path(tmp_path: Path) -> None:
    assert flaws(
        tmp_path,
        """
        server: {port: 70000, workers: 0, hots: x}
        databse: x
        fetch: {max_bytes: many, allow: [10.0.0.0/99]}
        log: {level: loud}
        auth: {keys: [{name: a}]}
        providers:
          bfl: {api_key: k, timeouts: {job: x}, region: moon, nonsense: 1}
          nobody: {api_key: k}
        models: {mine: {hosting: cloud, targets: [{weight: 1}]}}
        """,
    ) == [
        "databse: unknown; did you mean database?",
        "server.hots: unknown; did you mean host?",
        "server.port: expected a number from 0 to 65535, got 70000",
        "server.workers: expected a number of at least 1, got 0",
        'fetch.max_bytes: expected a number of bytes, got "many"',
        'log.level: expected one of debug, info, warning, error, got "loud"',
        "auth.keys[0].key: required",
        "providers.bfl.nonsense: unknown; known are api_key, base_url, concurrency, enabled, keys, models, "
        "models_only, per_minute, region, timeouts, translator",
        'providers.bfl.region: expected one of global, eu, us, got "moon"',
        'providers.bfl.timeouts.job: expected a number of seconds, got "x"',
        f"providers.nobody: there is no such provider; translator: expected one of {', '.join(translators.NAMES)}",
        'models.mine.hosting: expected one of store, passthrough, got "cloud"',
        "models.mine.targets[0].model: required",
        "fetch.allow[0]: expected a host, or a network such as 10.0.0.0/8",
    ]


def test_records_and_files_elsewhere(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        f"""
        server: {{trusted_proxies: [10.0.0.1, "fd00::/8"]}}
        auth: {{keys: [{{name: a, key: k, tier: pro}}], default_tier: trial, cache_seconds: 1m}}
        database: postgresql://pictor:{SECRET}@db/pictor
        redis: rediss://:{SECRET}@cache/0
        secret: {SECRET}
        history: {{enabled: true, prompts: false, outputs: false, retention: null}}
        files: {{store: "s3://bucket/here", options: {{region: eu-1}}, presign: true, upload_bytes: 1GB}}
        prices: {{unknown: allow}}
        models:
          mine: {{targets: demo/painter, cache: {{seconds: 1d, shared: true}}}}
          other: {{targets: demo/painter}}
        tiers:
          trial: {{models: [demo/*], images_per_minute: 5, concurrent_jobs: 1, max_n: 1, budget_usd_per_month: 1}}
          pro: {{max_size: 2048x1024, requests_per_minute: 60, budget_usd_per_day: 0.5}}
          free:
        """,
    )
    assert found.tiers == {
        "trial": Tier(
            models=("demo/*",), images_per_minute=5, concurrent_jobs=1, max_n=1, budget_usd_per_month=1
        ),
        "pro": Tier(max_size=(2048, 1024), requests_per_minute=60, budget_usd_per_day=0.5),
        "free": Tier(),
    }  # fmt: skip
    assert (found.auth.keys[0].tier, found.auth.default_tier, found.auth.cache_seconds) == ("pro", "trial", 60)
    assert found.database == Secret(f"postgresql://pictor:{SECRET}@db/pictor")
    assert (found.history.retention, found.history.prompts) == (None, False)
    assert found.models["mine"].cache == config.Cache(seconds=86_400, shared=True)
    assert found.models["other"].cache is None
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        "database: sqlite:////srv/pictor.db", "database: sqlite:///pictor.db", "redis: unix:///run/redis.sock",
        "redis: redis://cache", "files: {store: gs://bucket}", "files: {store: 'az://container', presign: true}",
        f"secret: {SECRET}",
    ],
)  # fmt: skip
def test_places(tmp_path: Path, text: str) -> None:
    load(tmp_path, text)


def test_a_place_that_is_not_said_is_the_embedded_one(tmp_path: Path) -> None:
    text = "database: '${URL:-}'\nredis: '${REDIS:-}'\nsecret: '${SECRET:-}'\nfiles: {store: '${STORE:-}'}"
    found = load(tmp_path, text)
    assert (found.database, found.redis, found.secret, found.files.store) == (None, None, None, None)


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("server: [1]", "server: expected a mapping, got a list"),
        ("[1, 2]", "the file: expected a mapping, got a list"),
        ("server: {port: eighty}", 'server.port: expected a whole number, got "eighty"'),
        ("server: {port: true}", "server.port: expected a whole number, got true"),
        ("server: {public_url: pictor.example}", "server.public_url: expected an address that begins with http:// or"),
        ("metrics: {open: maybe}", 'metrics.open: expected true or false, got "maybe"'),
        ("limits: {image_bytes: -5}", "limits.image_bytes: expected a number of bytes, got -5"),
        ("files: {retention: 3 fortnights}", 'files.retention: expected a number of seconds, got "3 fortnights"'),
        ("auth: {keys: [{name: a, key: k, tier: pro}]}", 'auth.keys[0].tier: there is no tier "pro"; there are none'),
        ("auth: {keys: [{name: a, key: '', tier: pro}]}", 'auth.keys[0].tier: there is no tier "pro"; there are none'),
        ("{auth: {default_tier: pro}, tiers: {a: , b: }}", 'auth.default_tier: there is no tier "pro"; known are a, b'),
        ("tiers: [pro]", "tiers: expected a mapping, got a list"),
        ("tiers: {pro: {images: 3}}", "tiers.pro.images: unknown; "),
        ("tiers: {pro: {max_n: 0}}", "tiers.pro.max_n: expected a number of at least 1, got 0"),
        ("tiers: {pro: {max_size: big}}", "tiers.pro.max_size: expected two numbers such as 1024x1024"),
        ("tiers: {pro: {max_size: [0, 5]}}", "tiers.pro.max_size[0]: expected a number of at least 1, got 0"),
        ("tiers: {pro: {budget_usd_per_day: -1}}", "tiers.pro.budget_usd_per_day: expected a number of at least 0"),
        ("tiers: {pro: {models: []}}", "tiers.pro.models: expected at least one pattern; leave it out to allow all"),
        ("tiers: {pro: '${NONE}'}", "tiers.pro: NONE is not set"),
        (
            "{tiers: {pro: {budget_usd_per_month: 5}}, history: {enabled: false}}",
            "tiers.pro.budget_usd_per_month: without history nothing is counted; set history.enabled: true",
        ),
        (
            "{models: {a: {targets: demo/painter, cache: {}}}, history: {enabled: false}}",
            "models.a.cache: without history nothing is kept to be answered again",
        ),
        ("database: mysql://x/y", "database: expected an address that begins with postgresql:// or sqlite:///"),
        ("database: sqlite://", "database: expected an address that begins with postgresql:// or sqlite:///"),
        ("database: 'sqlite:///'", "database: expected an address that begins with postgresql:// or sqlite:///"),
        ("database: postgres://x/y", "database: expected an address that begins with postgresql:// or sqlite:///"),
        ("database: {}", "database: expected text in quotes"),
        ("redis: http://x", "redis: expected an address that begins with redis://, rediss:// or unix://"),
        ("files: {store: 'ftp://x'}", "files.store: expected an address that begins with s3://, gs:// or az://"),
        ("files: {store: 's3://'}", "files.store: expected an address that begins with s3://, gs:// or az://"),
        ("files: {presign: true}", "files.presign: needs a store of s3://, gs:// or az://"),
        ("files: {store: file:///srv}", "files.store: expected an address that begins with s3://, gs:// or az://"),
        ("database: postgresql://db/pictor", "secret: required beside a postgresql:// database, whose machines"),
        ("secret: short", "secret: expected at least 16 characters"),
        ("server: {trusted_proxies: [proxy.lan]}", "server.trusted_proxies[0]: expected an address, or a network"),
        ("server: {trusted_proxies: [10.0.0.1/8]}", "server.trusted_proxies[0]: expected an address, or a network"),
        ("auth: {keys: [{name: a, key: k}, {name: a, key: l}]}", "auth.keys: two of them have the same name"),
        ("auth: {keys: [{name: a, key: k}, {name: b, key: k}]}", "auth.keys: two of them have the same key"),
        ("auth: {keys: {a: k}}", "auth.keys: expected a list, got a mapping"),
        ("fetch: {allow: [http://x]}", "fetch.allow[0]: expected a host"),
        ("models: [a]", "models: expected a mapping of aliases, got a list"),
        ("models: {a: []}", "models.a: expected at least one provider/model"),
        ("models: {a: {fallback_on: [rate]}}", "models.a.targets: required"),
        (
            "models: {a: {targets: demo/painter, fallback_on: [bored]}}",
            "models.a.fallback_on[0]: expected one of auth,",
        ),
        ("providers: [openai]", "providers: expected a mapping, got a list"),
        ("providers: {openai: yes}", "providers.openai: expected a mapping, got true"),
        ("providers: {a/b: {translator: openai}}", "providers.a/b: a provider's name is letters"),
        ("providers: {lab: {translator: nobody}}", "providers.lab.translator: expected one of openai"),
        ("providers: {lab: {translator: bfl}}", "providers.lab: it needs a credential: api_key"),
        ("providers: {bfl: {api_key: 12}}", "providers.bfl.api_key: expected text in quotes"),
        ("providers: {bfl: {keys: [k]}}", "providers.bfl.keys[0]: expected a mapping such as"),
        ("providers: {bfl: {keys: k}}", "providers.bfl.keys: expected a list"),
        (
            "providers: {bfl: {api_key: k, keys: [{api_key: l}]}}",
            "providers.bfl.keys: give a credential here or beside",
        ),
        ("providers: {bfl: {keys: [{api_key: k, sauce: s}]}}", "providers.bfl.keys[0].sauce: unknown"),
        ("providers: {bfl: {api_key: k, base_url: 'ftp://x'}}", "providers.bfl.base_url: expected an address that"),
        (
            "providers: {bfl: {api_key: k, base_url: 'http://u:p@x'}}",
            "providers.bfl.base_url: expected an address with",
        ),
        ("providers: {azure: {api_key: k}}", "providers.azure: its address is missing; set base_url or endpoint"),
        (
            "providers: {bfl: {api_key: k, concurrency: -1}}",
            "providers.bfl.concurrency: expected a number of at least 0",
        ),
        (
            "providers: {bfl: {models: {m: {max_n: x}}}}",
            'providers.bfl.models.m.max_n: expected a whole number, got "x"',
        ),
        ("providers: {bfl: {models: {m: {ops: [fly]}}}}", "providers.bfl.models.m.ops[0]: expected one of generate,"),
        ("providers: {bfl: {models: {m: {sizes: [big]}}}}", "providers.bfl.models.m.sizes[0]: expected two numbers"),
        (
            "providers: {bfl: {models: {m: {timeouts: {job: x}}}}}",
            "providers.bfl.models.m.timeouts.job: expected a num",
        ),
        ("providers: {bfl: {models: [m]}}", "providers.bfl.models: expected a mapping"),
        ("providers: {bfl: {models: {m: 1}}}", "providers.bfl.models.m: expected a mapping"),
        ("providers: {bfl: {models: {m: {max_pictures: 1}}}}", "providers.bfl.models.m.max_pictures: unknown; did you"),
        ("providers: {bfl: {models: {m: {prices: [{unit: image}]}}}}", "providers.bfl.models.m.prices[0].amount: requ"),
        ("providers: {vertex: {credentials: {client_email: a}}}", "providers.vertex.credentials: expected the JSON of"),
        ("data: ${NO_SUCH}", "data: NO_SUCH is not set"),
        ("data: ${no such}", "data: expected ${NAME} or ${NAME:-default}"),
        ("a: 1\nb: 2\na: 3", 'the file: line 3: the key "a" stands there twice'),
        ("server: {port: 1", "the file: line 2: this is not YAML: "),
        ("data: \a", "the file: this is not YAML"),
    ],
)
def test_faults(tmp_path: Path, text: str, flaw: str) -> None:
    found = flaws(tmp_path, text)
    assert any(each.startswith(flaw) for each in found), found


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the file: cannot be read: No such file"):
        config.load(tmp_path / "none.yaml", {})
    (tmp_path / "latin").write_bytes(b"data: \xff")
    with pytest.raises(ConfigError, match="the file: it is not UTF-8"):
        config.load(tmp_path / "latin", {})


def test_numbers_and_truths_from_the_environment(tmp_path: Path) -> None:
    text = """
    server: {port: "${PORT}", workers: "${WORKERS:-3}", public_url: "${URL:-}"}
    metrics: {open: "${OPEN}"}
    data: "$${HOME}/${DIR:-x}"
    """
    found = load(tmp_path, text, {"PORT": "81", "OPEN": "yes", "DIR": "pictures"})
    assert (found.server.port, found.server.workers, found.server.public_url) == (81, 3, None)
    assert found.metrics.open is True
    assert found.data == "${HOME}/pictures"


# ---- who may call


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_open_on_loopback(tmp_path: Path, host: str) -> None:
    place = f"server: {{host: '{host}'}}\n"
    assert load(tmp_path, place).auth.mode == "auto"  # open until a key is made
    assert load(tmp_path, place + "auth: {mode: open}").auth.mode == "open"
    assert load(tmp_path, place + "auth: {keys: [{name: a, key: k}]}").auth.mode == "keys"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "pictor.example"])
def test_open_elsewhere_is_said_twice(tmp_path: Path, host: str) -> None:
    place = f"server: {{host: '{host}'}}\n"
    for auth in ("", "auth: {mode: auto}", "auth: {mode: open}", "auth: {mode: open, keys: [{name: a, key: k}]}"):
        assert "open_anywhere" in flaws(tmp_path, place + auth)[0]
    assert load(tmp_path, place + "auth: {mode: open, open_anywhere: true}").auth.mode == "open"
    assert load(tmp_path, place + "auth: {open_anywhere: true}").auth.mode == "auto"
    assert load(tmp_path, place + "auth: {mode: keys}").auth.mode == "keys"  # all of them in the database
    assert load(tmp_path, place + "auth: {keys: [{name: a, key: k}]}").auth.mode == "keys"


def test_an_empty_key_is_no_key(tmp_path: Path) -> None:
    text = "auth: {keys: [{name: a, key: '${KEY:-}'}, {name: b, key: '${OTHER:-}'}]}"
    assert load(tmp_path, text).auth == config.Auth()
    assert [key.name for key in load(tmp_path, text, {"OTHER": "k"}).auth.keys] == ["b"]
    assert flaws(tmp_path, "auth: {keys: [{name: a, key: '${KEY}'}]}") == ["auth.keys[0].key: KEY is not set"]


def test_a_secret_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{SECRET}\n")
    found = load(tmp_path, f"auth: {{keys: [{{name: a, key: 'file:{tmp_path}/key'}}]}}")
    assert found.auth.keys[0].key == Secret(SECRET)
    missing = flaws(tmp_path, f"auth: {{keys: [{{name: a, key: 'file:{tmp_path}/none'}}]}}")
    assert missing[0] == "auth.keys[0].key: the file cannot be read: No such file or directory"


# ---- providers


def test_a_missing_variable_leaves_the_provider_out(tmp_path: Path) -> None:
    text = """
    providers:
      bfl: {api_key: "${MY_KEY}", base_url: "${MY_URL}"}
      gemini: {keys: [{api_key: "${FIRST}"}, {api_key: "${SECOND}"}]}
      openai: {concurrency: 3}
    """
    found = load(tmp_path, text, {"SECOND": "s"}).providers
    assert found["bfl"].off == "MY_KEY is not set"
    assert [login.secret.key for login in found["gemini"].logins] == ["s"]
    assert found["openai"].off == "OPENAI_API_KEY is not set"
    assert flaws(tmp_path, text, {"MY_KEY": "k"}) == ["providers.bfl.base_url: MY_URL is not set"]


def test_faults_of_a_provider_that_is_off_are_still_faults(tmp_path: Path) -> None:
    assert flaws(tmp_path, "providers: {bfl: {api_key: '${NONE}', concurency: 1}}") == [
        "providers.bfl.concurency: unknown; did you mean concurrency?"
    ]


def test_switched_off(tmp_path: Path) -> None:
    found = load(tmp_path, "providers: {bfl: {enabled: '${BFL}'}}", {"BFL": "false", "BFL_API_KEY": "k"})
    assert found.providers["bfl"].off == "it is switched off"
    assert not found.providers["demo"].off


def test_the_demo_steps_aside_unless_it_is_named(tmp_path: Path) -> None:
    env = {"BFL_API_KEY": "k"}
    assert load(tmp_path, "", env).providers["demo"].off
    assert not load(tmp_path, "providers: {demo: {}}", env).providers["demo"].off
    assert load(tmp_path, "providers: {demo: {enabled: false}}").providers["demo"].off


def test_what_the_file_says_wins_over_the_environment(tmp_path: Path) -> None:
    env = {"OPENAI_API_KEY": "env", "OPENAI_ORG_ID": "org", "OPENAI_PROJECT_ID": "project"}
    found = load(tmp_path, "providers: {openai: {api_key: file, project: mine}}", env).providers["openai"]
    assert found.logins[0].secret.key == "file"
    assert found.site == {"organization": "org", "project": "mine"}


def test_another_server_never_gets_the_usual_key(tmp_path: Path) -> None:
    text = "providers: {lab: {translator: openai, base_url: 'http://gpu-1:8188/v1/'}}"
    lab = load(tmp_path, text, {"OPENAI_API_KEY": SECRET}).providers["lab"]
    assert [login.secret.key for login in lab.logins] == [""]
    assert (lab.off, lab.base_url, lab.site["base_url"]) == ("", "http://gpu-1:8188/v1", "http://gpu-1:8188/v1")


def test_several_credentials(tmp_path: Path) -> None:
    found = load(tmp_path, "providers: {bfl: {keys: [{api_key: a}, {api_key: b}]}}", {"BFL_API_KEY": "c"})
    assert [login.secret.key for login in found.providers["bfl"].logins] == ["a", "b"]


def test_regions_and_settings(tmp_path: Path) -> None:
    found = load(tmp_path, "providers: {bfl: {api_key: k}, openai: {api_key: k, region: eu, variations: true}}")
    assert found.providers["bfl"].site == {"region": "global"}
    assert found.providers["openai"].site == {"region": "eu", "variations": "true"}


def test_models(tmp_path: Path) -> None:
    text = """
    providers:
      bfl:
        api_key: k
        timeouts: {job: 20m}
        models_only: [flux-2-pro, mine]
        models:
          flux-2-pro: {max_n: 2, hidden: true, timeouts: {job: 1h}, sizes: [512x512, [64, 32]]}
          mine: {like: flux-2-pro, ends: 2027-01-01, prices: [{unit: image, amount: 1, currency: CNY}]}
    """
    bfl = load(tmp_path, text).providers["bfl"]
    assert (bfl.timeouts.connect, bfl.timeouts.job) == (10, 1200)
    model = bfl.models["flux-2-pro"]
    assert model.hidden
    assert model.timeouts == {"job": 3600}
    assert model.caps == {"max_n": 2, "sizes": ((512, 512), (64, 32))}
    assert bfl.models["mine"].like == "flux-2-pro"
    assert bfl.models["mine"].caps["ends"] == "2027-01-01"
    assert bfl.models["mine"].caps["prices"][0].currency == "CNY"


def test_models_that_make_videos(tmp_path: Path) -> None:
    text = """
    providers:
      kling:
        api_key: k
        models:
          kling-3.0: {seconds: [5], sound: none}
          kling-v3: {type: video, pixels_of: {"16:9@720p": 1280x720}}
          kling-v2-1: {hidden: true}
          ep-1: {like: kling-3.0}
    """
    models = load(tmp_path, text).providers["kling"].models
    assert [model.type for model in models.values()] == ["video", "video", "image", "video"]
    assert models["kling-3.0"].caps == {"seconds": (5,), "sound": "none"}
    assert models["kling-v3"].caps == {"pixels_of": {"16:9@720p": (1280, 720)}}
    wrong = """
    providers:
      kling:
        api_key: k
        models:
          kling-3.0: {max_n: 2, timeouts: {video: 1m}}
          kling-v3: {type: film}
    tiers: {gold: {priority: 101}}
    """
    found = flaws(tmp_path, wrong)
    assert found[0] == "tiers.gold.priority: expected a number from -100 to 100, got 101"
    assert found[1].startswith("providers.kling.models.kling-3.0.max_n: unknown")
    assert found[2:] == [
        "providers.kling.models.kling-3.0.timeouts.video: a model has job alone",
        'providers.kling.models.kling-v3.type: expected one of image, video, got "film"',
    ]


@pytest.mark.parametrize("form", ["mapping", "text", "file", "variable"])
def test_a_service_account(tmp_path: Path, form: str) -> None:
    account, env = json.dumps(ACCOUNT), {}
    path = tmp_path / "account.json"
    path.write_text(account)
    written = {"mapping": account, "text": json.dumps(account), "file": f"file:{path}"}.get(form)
    if form == "variable":
        env["GOOGLE_APPLICATION_CREDENTIALS"] = str(path)
    text = f"providers: {{vertex: {{credentials: {written}}}}}" if written else ""
    vertex = load(tmp_path, text, env).providers["vertex"]
    assert vertex.site["project"] == "my-project"
    grant = vertex.logins[0].grant
    assert grant["grant"] == "jwt"
    assert (grant["client_email"], grant["private_key"], grant["token_uri"]) == (
        "a@b.example", SECRET, "https://token.example/",
    )  # fmt: skip


def test_a_variable_for_other_programs_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "user.json"
    path.write_text('{"type": "authorized_user"}')
    for value in (str(path), str(tmp_path / "none.json")):
        off = load(tmp_path, "", {"GOOGLE_APPLICATION_CREDENTIALS": value}).providers["vertex"].off
        assert off
    assert off == "the file cannot be read: No such file or directory"


class Granting(Provider, frozen=True, kw_only=True):
    grant: Mapping[str, str] = {}


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A provider whose credentials have several parts, or are traded for a token."""
    module = ModuleType("translators.signed")
    fixed = Granting(
        title="Signed",
        env={"access_key": "SIGNED_ACCESS", "secret_key": "SIGNED_SECRET"},
        grant={"token_url": "https://login.example/{tenant}/token", "scope": "all"},
    )
    vars(module).update({name: getattr(demo, name) for name in demo.__all__})
    vars(module).update(PROVIDER=fixed, base=lambda site: "https://signed.example")
    monkeypatch.setitem(sys.modules, "translators.signed", module)
    monkeypatch.setattr(translators, "NAMES", (*translators.NAMES, "signed"))
    return module


def test_credentials_in_several_parts(tmp_path: Path, signed: ModuleType) -> None:
    found = load(tmp_path, "", {"SIGNED_ACCESS": "a", "SIGNED_SECRET": "s"}).providers["signed"]
    assert found.logins[0].secret == Secret("", extra={"access_key": "a", "secret_key": "s"})
    assert load(tmp_path, "").providers["signed"].off == "SIGNED_ACCESS and SIGNED_SECRET is not set"
    assert load(tmp_path, "", {"SIGNED_ACCESS": "a"}).providers["signed"].off == "required beside access_key"
    assert flaws(tmp_path, "providers: {signed: {keys: [{secret_key: s}]}}") == [
        "providers.signed.keys[0].access_key: required beside secret_key"
    ]


def test_client_credentials(tmp_path: Path, signed: ModuleType) -> None:
    text = "providers: {signed: {tenant: t, client_id: i, client_secret: s}}"
    assert load(tmp_path, text).providers["signed"].logins[0].grant == {
        "grant": "client_credentials",
        "token_url": "https://login.example/t/token",
        "client_id": "i",
        "client_secret": "s",
        "scope": "all",
    }
    assert flaws(tmp_path, "providers: {signed: {client_id: i}}") == [
        "providers.signed.client_secret: required beside client_id",
        "providers.signed.tenant: required beside client_id",
    ]


# ---- secrets


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    text = f"""
    auth: {{keys: [{{name: a, key: {SECRET}}}]}}
    providers:
      openai: {{api_key: {SECRET}}}
      gemini: {{keys: [{{api_key: {SECRET}}}]}}
      vertex: {{credentials: {json.dumps(ACCOUNT)}}}
    """
    found = load(tmp_path, text)
    for shown in (repr(found), str(found), f"{found.providers['vertex'].logins}", repr(found.auth.keys)):
        assert SECRET not in shown


@pytest.mark.parametrize(
    "text",
    [
        f"auth: {{keys: [{{name: a, key: [{SECRET}]}}]}}",
        f"auth: {{keys: [{{name: a, key: {SECRET}",
        f"auth: {{keys: [{{name: a, key: *{SECRET}}}]}}",
        f"providers: {{vertex: {{credentials: '{SECRET}'}}}}",
        f"providers: {{bfl: {{keys: [{SECRET}]}}}}",
        "server: {port: '${TOKEN}', workers: 'x${TOKEN}'}",
        "fetch: {allow: ['${TOKEN}/8']}",
        "server: {public_url: '${TOKEN}'}",
        f"database: postgres://pictor:{SECRET}@db/pictor",
        f"database: postgresql://pictor:{SECRET}@db/pictor",
        f"redis: redis.example:{SECRET}",
        f"files: {{store: 'https://user:{SECRET}@files.example'}}",
        f"server: {{trusted_proxies: [{SECRET}]}}",
    ],
)
def test_no_fault_shows_a_secret(tmp_path: Path, text: str) -> None:
    assert SECRET not in "\n".join(flaws(tmp_path, text, {"TOKEN": SECRET}))


# ---- the shipped file


VALUES = {"base_url": "https://r.example", "endpoint": "https://r.example", "credentials": json.dumps(ACCOUNT)}
ENV = {
    variable: VALUES.get(setting, "k")
    for name in translators.NAMES
    for setting, variable in translators.load(name).PROVIDER.env.items()
} | {
    "PICTOR_KEY": "k", "PICTOR_HOST": "0.0.0.0", "PICTOR_PORT": "80", "PICTOR_DATA": "/srv",
    "PICTOR_PUBLIC_URL": "https://pictor.example",
}  # fmt: skip
WITHOUT = {name for name in translators.NAMES if not translators.load(name).PROVIDER.env}
"""Those that no variable switches on."""
SHIPPED = Path(__file__).parent.parent / "config.yaml"


def test_the_shipped_file_runs_as_it_stands() -> None:
    found = config.load(SHIPPED, {})
    assert (found.server, found.auth, found.data) == (config.Server(), config.Auth(), "./data")
    assert [name for name, given in found.providers.items() if not given.off] == ["demo"]


def test_the_shipped_file_with_every_variable() -> None:
    found = config.load(SHIPPED, ENV)
    assert (found.auth.mode, found.auth.keys[0].name, found.server.port) == ("keys", "default", 80)
    assert {name for name, given in found.providers.items() if given.off} == WITHOUT


def test_the_shipped_file_shows_every_field_with_its_default() -> None:
    """Uncommented, it is still a configuration, and says nothing but the defaults."""
    text = SHIPPED.read_text().partition("\nproviders:")[0]
    lines = [re.sub(r"^(\s*)# (\s*[a-z_]+:)", r"\1\2", line) for line in text.splitlines() if line[:6] != "    # "]
    tree = plain.filled(plain.parsed("\n".join(lines)), {})
    for section, cls in plain.hints(Config).items():
        if section not in {"providers", "models"}:
            assert section in tree
        if hasattr(cls, "__struct_fields__"):
            assert set(tree[section]) == set(cls.__struct_fields__)
    assert all(f"{name}:" in text for name in plain.hints(config.Key))
    found: list[str] = []
    given = plain.members(Config, tree, "", found)
    assert not found
    for section in ("server", "metrics", "history", "files", "fetch", "limits", "prices", "log"):
        assert given[section] == getattr(Config(), section)
    auth = msgspec.structs.replace(given["auth"], keys=())
    assert auth == config.Auth()
    assert (given["data"], given["database"], given["redis"], given["secret"]) == ("./data", None, None, None)


def test_the_shipped_tiers() -> None:
    found = config.load(SHIPPED, {})
    assert [*found.tiers] == ["trial", "starter", "standard", "pro"]
    assert found.tiers["trial"].models == ("demo/*",)
    for name in ("images_per_minute", "requests_per_minute", "concurrent_jobs", "max_n", "budget_usd_per_month"):
        rising = [getattr(tier, name) for tier in found.tiers.values()]
        assert all(rising)
        assert rising == sorted(rising)
    said = {name for tier in found.tiers.values() for name in Tier.__struct_fields__ if getattr(tier, name) is not None}
    assert said == set(Tier.__struct_fields__)
