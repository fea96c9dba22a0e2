from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

import translators
from proxy import catalog, config, listing, plain
from proxy.catalog import Catalog, Route
from proxy.config import ConfigError
from proxy.providers import AnyCaps, Makes
from tests.test_config import ENV, SHIPPED
from translators.base import Fault


def build(text: str, env: Mapping[str, str] | None = None) -> Catalog:
    tree = plain.parsed(textwrap.dedent(text)) or {}
    return catalog.build(config.load(None, env or {}, tree), created=1_790_000_000)


def flaws(text: str, env: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build(text, env)
    return caught.value.flaws


def fault(served: Catalog, name: str | None, makes: Makes = "image") -> Fault:
    with pytest.raises(Fault) as caught:
        served.route(name, makes)
    return caught.value


def ids(route: Route[AnyCaps]) -> list[str]:
    return [target.id for target in route.targets]


TWO = """
providers:
  bfl: {api_key: k}
  gemini: {api_key: k}
"""
LAB = """
providers:
  bfl: {api_key: k}
  lab:
    translator: openai
    base_url: http://gpu-1:8188/v1
    models:
      qwen-image: {ops: [generate, edit], max_n: 4, sizes: [1024x1024], free: null}
      org/model: {ops: [generate], hidden: true}
      flux-2-pro: {ops: [generate]}
"""


# ---- names


def test_three_ways_to_name_a_model() -> None:
    served = build(TWO + "models: {house: [bfl/flux-2-pro, gemini/gemini-3-pro-image]}")
    assert ids(served.route("bfl/flux-2-pro")) == ["bfl/flux-2-pro"]
    assert ids(served.route("flux-2-pro")) == ["bfl/flux-2-pro"]
    house = served.route("house")
    assert (house.name, house.alias, ids(house)) == ("house", "house", ["bfl/flux-2-pro", "gemini/gemini-3-pro-image"])
    assert served.route("flux-2-pro").alias is None


def test_a_model_part_may_hold_slashes() -> None:
    served = build(LAB)
    assert ids(served.route("lab/org/model")) == ["lab/org/model"]
    assert ids(served.route("bfl/flux-tools/erase-v1")) == ["bfl/flux-tools/erase-v1"]
    assert ids(served.route("flux-tools/erase-v1")) == ["bfl/flux-tools/erase-v1"]


def test_a_bare_name_that_two_have() -> None:
    found = fault(build(LAB), "flux-2-pro")
    assert (found.kind, found.param, found.code) == ("invalid", "model", "invalid_value")
    assert "bfl/flux-2-pro, lab/flux-2-pro" in found.message


def test_an_alias_wins_over_a_bare_name() -> None:
    served = build(LAB + "models: {flux-2-pro: bfl/flux-2-pro}")
    assert served.route("flux-2-pro").alias == "flux-2-pro"


@pytest.mark.parametrize("name", ["x", "nobody/x", "bfl/x", "bfl/", "/", "BFL/flux-2-pro", " ", "a" * 10_000])
def test_no_such_model(name: str) -> None:
    found = fault(build(TWO), name)
    assert (found.kind, found.code, found.param) == ("missing", "invalid_value", "model")
    assert found.message.startswith(f"The model '{name[:20]}")
    assert " does not exist." in found.message
    assert len(found.message) < 500
    assert "provider/model, such as bfl/" in found.message
    assert "GET /v1/models" in found.message


def test_a_provider_that_is_not_configured() -> None:
    found = fault(build(TWO), "openai/gpt-image-2")
    assert found.message.startswith("The model 'openai/gpt-image-2' does not exist.")
    assert "OPENAI_API_KEY is not set" in found.message


def test_an_alias_that_leads_nowhere_yet() -> None:
    served = build("models: {dall-e-3: [openai/gpt-image-2, bfl/flux-2-pro]}")
    found = fault(served, "dall-e-3")
    assert (found.kind, found.code) == ("missing", "invalid_value")
    assert "openai: OPENAI_API_KEY is not set; bfl: BFL_API_KEY is not set" in found.message
    assert "demo" not in ids(served.route("painter"))


def test_targets_of_providers_that_are_not_configured_are_skipped() -> None:
    served = build("models: {a: [openai/gpt-image-2, bfl/flux-2-pro]}", {"BFL_API_KEY": "k"})
    assert ids(served.route("a")) == ["bfl/flux-2-pro"]


def test_aliases_keep_order_weights_and_wishes() -> None:
    text = """
    models:
      a: {targets: [{model: bfl/flux-2-pro, weight: 3}, {model: bfl/flux-2-max}], fallback_on: [rate]}
      b: {targets: bfl/flux-2-pro, hosting: store}
    files: {hosting: passthrough}
    """
    served = build(text, {"BFL_API_KEY": "k"})
    a, b = served.route("a"), served.route("b")
    assert [(target.id, target.weight) for target in a.targets] == [("bfl/flux-2-pro", 3), ("bfl/flux-2-max", 1)]
    assert (a.fallback_on, a.hosting) == (frozenset({"rate"}), "passthrough")
    assert (b.fallback_on, b.hosting) == (Route("", ()).fallback_on, "store")
    assert served.route("bfl/flux-2-pro").hosting == "passthrough"


def test_refusals_never_fall_back_by_themselves() -> None:
    assert Route("", ()).fallback_on.isdisjoint({"policy", "invalid", "cancelled"})


# ---- the default model


def test_no_model_named() -> None:
    assert ids(build("").route(None)) == ["demo/painter"]
    found = fault(build(TWO), None)
    assert (found.kind, found.code, found.param) == ("invalid", "missing_required_parameter", "model")
    assert found.message.startswith("Missing required parameter: 'model'.")
    assert ids(build(TWO + "default_model: bfl/flux-2-pro").route("")) == ["bfl/flux-2-pro"]
    assert ids(build(TWO + "default_model: a\nmodels: {a: bfl/flux-2-max}").route(None)) == ["bfl/flux-2-max"]
    assert flaws(TWO + "default_model: nobody/x")[0].startswith("default_model: nobody/x is neither")
    assert flaws(TWO + "default_model: flux-2-pro")[0].startswith("default_model: flux-2-pro is neither")


def test_the_demo_is_no_stand_in() -> None:
    served = build(TWO)
    assert "demo/painter" not in served.targets
    assert "demo is on only where no other provider is" in fault(served, "demo/painter").message.replace(
        "it is", "demo is"
    )


# ---- capabilities


def test_capabilities_are_overruled_field_by_field() -> None:
    served = build("providers: {bfl: {api_key: k, models: {flux-2-pro: {max_images: 3, formats: [png]}}}}")
    known = translators.load("bfl").MODELS["flux-2-pro"]
    found = served.route("bfl/flux-2-pro").targets[0].caps
    assert found == msgspec.structs.replace(known, max_images=3, formats=("png",))


def test_a_server_of_ones_own() -> None:
    served = build(LAB)
    upstream = served.upstreams["lab"]
    assert (upstream.base, upstream.trusted) == ("http://gpu-1:8188/v1", True)
    assert [(each.name, each.secret.key) for each in upstream.credentials] == [("lab#1", "")]
    caps = served.route("qwen-image").targets[0].caps
    assert (caps.ops, caps.max_n, caps.sizes, caps.free) == (frozenset({"generate", "edit"}), 4, ((1024, 1024),), None)
    declared = vars(translators.load("openai"))["DECLARED"]
    assert served.route("lab/never-heard-of").targets[0].caps == declared
    assert not any(name.startswith("lab/gpt-image") for name in served.targets)


def test_like_another_model() -> None:
    text = "providers: {bfl: {api_key: k, models: {flux-9: {like: flux-2-pro, max_images: 2}}}}"
    caps = build(text).route("flux-9").targets[0].caps
    assert caps == msgspec.structs.replace(translators.load("bfl").MODELS["flux-2-pro"], max_images=2)
    assert flaws(text.replace("like: flux-2-pro", "like: flux-8")) == [
        "providers.bfl.models.flux-9.like: bfl has no model flux-8"
    ]
    assert flaws(text.replace("like: flux-2-pro, ", "")) == [
        "providers.bfl.models.flux-9.ops: required, as no release knows this model"
    ]
    assert ids(build(text.replace("like: flux-2-pro", "ops: [generate]")).route("flux-9")) == ["bfl/flux-9"]


def test_these_models_only() -> None:
    served = build("providers: {bfl: {api_key: k, models_only: [flux-2-pro]}}")
    assert list(served.targets) == ["bfl/flux-2-pro"]
    assert fault(served, "bfl/flux-2-max").kind == "missing"
    assert flaws("providers: {bfl: {api_key: k, models_only: [flux-8]}}") == [
        "providers.bfl.models_only[0]: bfl has no model flux-8"
    ]


def test_prices_become_dollars() -> None:
    text = """
    prices: {usd_per_cny: 0.5}
    providers: {bfl: {api_key: k, models: {flux-2-pro: {prices: [{unit: image, amount: 4, currency: CNY}]}}}}
    """
    (price,) = build(text).route("flux-2-pro").targets[0].caps.prices
    assert (price.amount, price.currency) == (2, "USD")


# ---- upstreams


def test_an_upstream() -> None:
    text = """
    providers:
      bfl:
        keys: [{api_key: a}, {api_key: b}]
        region: eu
        concurrency: 7
        timeouts: {connect: 1, first_byte: 2, job: 3}
        models: {flux-2-max: {timeouts: {job: 30m}}}
    """
    served = build(text)
    bfl = served.upstreams["bfl"]
    assert [(each.name, each.secret.key) for each in bfl.credentials] == [("bfl#1", "a"), ("bfl#2", "b")]
    assert (bfl.base, bfl.trusted, bfl.site) == ("https://api.eu.bfl.ai", False, {"region": "eu"})
    assert (bfl.connect_seconds, bfl.first_byte_seconds, bfl.job_seconds, bfl.concurrency) == (1, 2, 3, 7)
    assert served.route("bfl/flux-2-pro").targets[0].upstream is bfl
    slow = served.route("bfl/flux-2-max").targets[0].upstream
    assert (slow.name, slow.connect_seconds, slow.job_seconds) == ("bfl", 1, 1800)


def test_defaults_that_pictures_need() -> None:
    bfl = build(TWO).upstreams["bfl"]
    assert (bfl.connect_seconds, bfl.first_byte_seconds, bfl.job_seconds) == (10, 300, 600)


@pytest.mark.parametrize("name", [name for name in translators.NAMES if name != "demo"])
def test_every_provider_can_be_sent_elsewhere(name: str) -> None:
    served = build(f"providers: {{{name}: {{api_key: k, base_url: 'http://127.0.0.1:9/v1/'}}}}")
    assert (served.upstreams[name].base, served.upstreams[name].trusted) == ("http://127.0.0.1:9/v1", True)


def test_the_demo_has_no_wire() -> None:
    demo = build("").upstreams["demo"]
    assert (demo.base, len(demo.credentials)) == ("", 1)


def test_nothing_shows_a_secret() -> None:
    served = build("providers: {bfl: {api_key: sk-never-show}}")
    assert "sk-never-show" not in repr(served)
    assert b"sk-never-show" not in msgspec.json.encode(listing.listing(served))


# ---- aliases are checked


def test_alias_targets_must_exist() -> None:
    assert flaws("models: {a: [bfl/flux-8, nobody/x, flux-2-pro]}") == [
        "models.a[0]: bfl has no model flux-8",
        f"models.a[1]: expected provider/model with one of the providers {', '.join(translators.NAMES)}, got nobody/x",
        "models.a[2]: expected provider/model with one of the providers "
        f"{', '.join(translators.NAMES)}, got flux-2-pro",
    ]


def test_a_fallback_must_do_what_the_first_does() -> None:
    text = LAB + "models: {a: [bfl/flux-2-pro, lab/qwen-image, lab/flux-2-pro]}"
    assert flaws(text) == [
        "models.a[1]: lab/qwen-image cannot variation, as the first target can",
        "models.a[2]: lab/flux-2-pro cannot edit, variation, as the first target can",
    ]
    assert len(build(LAB + "models: {a: [lab/flux-2-pro, bfl/flux-2-pro]}").route("a").targets) == 2


# ---- the list


def test_the_list() -> None:
    served = build(LAB + "models: {house: [lab/qwen-image], gone: [openai/gpt-image-2]}")
    listed = {entry["id"]: entry for entry in listing.listing(served)}
    assert "gone" not in listed
    assert "lab/org/model" not in listed  # hidden
    assert next(iter(listed)) == "house"
    model = listed["lab/qwen-image"]
    assert {name: model[name] for name in ("object", "created", "owned_by", "shutdown_date", "type", "provider")} == {
        "object": "model", "created": 1_790_000_000, "owned_by": "lab", "shutdown_date": None, "type": "image",
        "provider": "lab",
    }  # fmt: skip
    assert model["enabled"] is True
    assert (model["sizes"], model["free_size"], model["price"]) == (["1024x1024"], None, [])
    assert model["capabilities"]["ops"] == ["edit", "generate"]
    assert (model["capabilities"]["max_n"], model["capabilities"]["mask"]) == (4, False)
    assert listed["house"]["targets"] == ["lab/qwen-image"]
    assert listed["house"]["owned_by"] == "pictor"
    assert listed["house"]["capabilities"] == model["capabilities"]
    flux = listed["bfl/flux-2-max"]
    assert flux["price"][0]["unit"] == "image"
    assert flux["free_size"]["step"] == 16


def test_the_whole_list() -> None:
    served = build("models: {gone: [openai/gpt-image-2]}")
    gone, painter, *_ = listing.listing(served, everything=True)
    assert (gone["id"], gone["enabled"], gone["targets"]) == ("gone", False, [])
    assert (painter["id"], painter["enabled"]) == ("demo/painter", True)


def test_one_entry_by_any_name() -> None:
    served = build(LAB + "models: {house: [lab/qwen-image]}")
    assert listing.entry(served, "qwen-image")["id"] == "qwen-image"
    assert listing.entry(served, "house")["targets"] == ["lab/qwen-image"]
    assert listing.entry(served, "lab/never-heard-of")["provider"] == "lab"
    with pytest.raises(Fault, match="does not exist"):
        listing.entry(served, "nobody")


def test_openai_clients_can_read_the_list() -> None:
    from openai.types import Model

    for entry in listing.listing(build(LAB)):
        Model.model_validate(entry, strict=True)


# ---- labels


def test_label_values_come_from_the_configuration_alone() -> None:
    served = build(LAB + "models: {house: [lab/qwen-image]}")
    labels = served.labels
    assert (labels.provider("lab"), labels.model("qwen-image"), labels.alias("house")) == ("lab", "qwen-image", "house")
    for junk in range(1000):
        target = served.route(f"lab/junk-{junk}").targets[0]
        assert labels.model(target.model) == "other"
    assert (labels.provider("openai"), labels.alias("x"), labels.alias(None)) == ("other", "other", "none")


# ---- the shipped file

RETIRED = [
    "dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-1.5-2025-12-16",
    "chatgpt-image-latest",
]  # fmt: skip


def test_the_shipped_aliases() -> None:
    served = catalog.build(config.load(SHIPPED, ENV))
    for name in RETIRED:
        route = served.route(name)
        assert route.targets[0].id.startswith("openai/gpt-image-2")
        assert len({target.upstream.name for target in route.targets}) >= 5
        assert not any(target.model in RETIRED for target in route.targets)
        assert all(not (target.caps.ends and target.caps.ends < "2027") for target in route.targets)


@pytest.mark.parametrize("variable", ["GEMINI_API_KEY", "ARK_API_KEY", "OPENROUTER_API_KEY", "BFL_API_KEY"])
def test_one_key_is_enough_for_every_retired_name(variable: str) -> None:
    served = catalog.build(config.load(SHIPPED, {variable: "k"}))
    for name in RETIRED:
        assert len(served.route(name).targets) == 1


def test_the_shipped_file_without_a_key() -> None:
    served = catalog.build(config.load(SHIPPED, {}))
    assert ids(served.route(None)) == ["demo/painter"]
    for name in RETIRED:
        assert "OPENAI_API_KEY is not set" in fault(served, name).message


# ---- videos

FILMS = """
providers:
  bfl: {api_key: k}
  kling: {api_key: k}
  vertex: {api_key: k}
"""
VIDEO_LAB = """
providers:
  bfl: {api_key: k}
  lab:
    translator: openai
    base_url: http://gpu-1:8188/v1
    models:
      my-video: {type: video, seconds: [4, 8], sizes: [832x480, 480x832]}
      qwen-image: {ops: [generate]}
"""


def test_a_name_leads_to_what_is_wanted() -> None:
    served = build(FILMS)
    for name in ("kling/kling-v3", "kling-v3"):  # which makes pictures and videos
        pictures, videos = served.route(name), served.route(name, "video")
        assert ids(pictures) == ids(videos) == ["kling/kling-v3"]
        assert [route.targets[0].makes for route in (pictures, videos)] == ["image", "video"]
        assert pictures.targets[0].caps == translators.load("kling").MODELS["kling-v3"]
        assert videos.targets[0].caps.tasks == {"create"}
    assert ids(served.route("veo-3.1-generate-001", "video")) == ["vertex/veo-3.1-generate-001"]


@pytest.mark.parametrize("name", ["flux-2-pro", "bfl/flux-2-pro", "house"])
def test_pictures_are_no_videos(name: str) -> None:
    found = fault(build(FILMS + "models: {house: bfl/flux-2-pro, film: vertex/veo-3.1-generate-001}"), name, "video")
    assert (found.kind, found.code, found.param) == ("invalid", "invalid_value", "model")
    assert found.message.startswith(f"The model '{name}' makes pictures, not videos. Models that make videos: film, ")
    assert found.message.endswith("; GET /v1/models?type=video lists all of them.")


@pytest.mark.parametrize("name", ["veo-3.1-generate-001", "vertex/veo-3.1-generate-001", "film", "gone"])
def test_videos_are_no_pictures(name: str) -> None:
    text = FILMS + "models: {film: vertex/veo-3.1-generate-001, gone: volcengine/doubao-seedance-2-0-260128}"
    found = fault(build(text), name)
    assert (found.kind, found.code, found.param) == ("invalid", "invalid_value", "model")
    assert "makes videos, not pictures. Models that make pictures: " in found.message
    assert "bfl/flux-2-pro" in found.message or "bfl/" in found.message


def test_nobody_makes_videos() -> None:
    found = fault(build("providers: {recraft: {api_key: k}}"), "recraft/recraftv3", "video")
    assert found.message.endswith("makes pictures, not videos. No provider that makes videos is configured.")


def test_what_two_have_is_asked_for_by_its_full_name() -> None:
    found = fault(build("providers: {gemini: {api_key: k}, vertex: {api_key: k}}"), "gemini-omni-1.2-flash", "video")
    assert "gemini/gemini-omni-1.2-flash, vertex/gemini-omni-1.2-flash" in found.message


def test_no_model_named_for_a_video() -> None:
    assert ids(build("").route(None, "video")) == ["demo/animation"]
    found = fault(build(FILMS), None, "video")
    assert (found.code, found.param) == ("missing_required_parameter", "model")
    assert "GET /v1/models?type=video" in found.message
    sora = "models: {sora-2: [volcengine/doubao-seedance-2-0-260128, kling/kling-3.0]}\n"
    assert ids(build(FILMS + sora).route("", "video")) == ["kling/kling-3.0"]
    assert ids(build(sora).route(None, "video")) == ["demo/animation"]
    assert "ARK_API_KEY is not set" in fault(build(TWO + sora), None, "video").message
    said = "default_video_model: bfl/flux-3-video\n"
    assert ids(build(FILMS + sora + said).route(None, "video")) == ["bfl/flux-3-video"]
    assert fault(build(FILMS + said), None).code == "missing_required_parameter"
    for wrong in ("default_video_model: bfl/flux-2-pro", "default_model: bfl/flux-3-video"):
        assert flaws(FILMS + wrong)[0].startswith(f"{wrong} is neither an alias nor a provider/model that can be")


def test_an_alias_makes_one_thing() -> None:
    text = FILMS + "models: {a: [vertex/veo-3.1-generate-001, bfl/flux-2-pro, kling/kling-v3], b: [kling/kling-v3]}"
    assert flaws(text) == ["models.a[1]: bfl/flux-2-pro makes pictures, the first target videos"]
    both = build(FILMS + "models: {b: [kling/kling-v3]}")
    assert [both.route("b").targets[0].makes, both.route("b", "video").targets[0].makes] == ["image", "video"]
    film = build(FILMS + "models: {a: [kling/kling-v3, vertex/veo-3.1-generate-001]}")
    assert ids(film.route("a", "video")) == ["kling/kling-v3", "vertex/veo-3.1-generate-001"]
    assert fault(film, "a").kind == "invalid"


def test_a_fallback_of_videos_creates_as_the_first_does() -> None:
    served = build(FILMS + "models: {a: [bfl/flux-3-video, vertex/veo-3.1-generate-001]}")  # which extends nothing
    assert len(served.route("a", "video").targets) == 2
    assert flaws(FILMS + "models: {a: [vertex/veo-3.1-generate-001, bfl/flux-tools/video-edit-v1]}") == [
        "models.a[1]: bfl/flux-tools/video-edit-v1 cannot create, as the first target can"
    ]
    assert flaws(FILMS + "models: {a: [bfl/flux-tools/video-edit-v1, vertex/veo-3.1-generate-001]}") == [
        "models.a[1]: vertex/veo-3.1-generate-001 cannot edit, as the first target can"
    ]


def test_an_upstream_of_videos() -> None:
    text = """
    providers:
      kling:
        api_key: k
        per_minute: 20
        concurrency: 3
        timeouts: {job: 1m, video: 2h}
        models:
          kling-v3: {type: video, timeouts: {job: 3h}}
      bfl: {api_key: k}
    """
    served = build(text)
    kling = served.route("kling/kling-3.0", "video").targets[0].upstream
    assert (kling.name, kling.job_seconds, kling.per_minute, kling.concurrency) == ("kling", 7200, 20, 3)
    assert kling.translator is translators.load_video("kling")
    assert kling.cancel is not None
    assert served.route("kling-v3", "video").targets[0].upstream.job_seconds == 10_800
    assert served.route("kling-v3").targets[0].upstream is served.upstreams["kling"]
    assert (served.upstreams["kling"].job_seconds, served.upstreams["kling"].cancel) == (60, None)
    assert served.route("flux-3-video", "video").targets[0].upstream.job_seconds == 1800


def test_capabilities_of_videos_are_overruled() -> None:
    served = build("providers: {kling: {api_key: k, models: {kling-v3: {type: video, seconds: [5], first: false}}}}")
    known = translators.load_video("kling").VIDEOS["kling-v3"]
    found = served.route("kling-v3", "video").targets[0].caps
    assert found == msgspec.structs.replace(known, seconds=(5,), first=False)
    assert served.route("kling-v3").targets[0].caps == translators.load("kling").MODELS["kling-v3"]
    known_by_name = build("providers: {kling: {api_key: k, models: {kling-3.0: {usual_seconds: 7}}}}")
    assert known_by_name.route("kling-3.0", "video").targets[0].caps.usual_seconds == 7


def test_videos_of_a_server_of_ones_own() -> None:
    served = build(VIDEO_LAB)
    mine = served.route("my-video", "video").targets[0]
    assert (mine.caps.seconds, mine.caps.sizes) == ((4, 8), ((832, 480), (480, 832)))
    assert mine.caps.options == {"*"}  # as its translator takes any of them for
    assert (mine.upstream.base, mine.upstream.trusted) == ("http://gpu-1:8188/v1", True)
    assert fault(served, "lab/my-video").kind == fault(served, "lab/qwen-image", "video").kind == "invalid"
    for makes in ("image", "video"):
        assert served.route("lab/never-heard-of", makes).targets[0].makes == makes


def test_each_is_listed_once_where_nobody_can_tell() -> None:
    text = "providers: {lab: {translator: openai, base_url: 'http://gpu-1:8188/v1', models_only: [a, b]}}"
    assert [(each["id"], each["type"]) for each in listing.listing(build(text))] == [
        ("lab/a", "image"), ("lab/b", "image"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "flaw"),
    [
        ("bfl: {api_key: k, models: {x: {type: video}}}", "bfl.models.x.tasks: required, as no release knows"),
        ("bfl: {api_key: k, models: {x: {type: video, like: flux-2-pro}}}", "bfl.models.x.like: bfl has no model flux"),
        ("zai: {api_key: k, models: {x: {type: video, tasks: [create]}}}", "zai.models.x.type: zai makes no videos; "),
        (
            "bfl: {api_key: k, models: {flux-3-video: {prices: [{unit: second, amount: 1, resolution: 8k}]}}}",
            "bfl.models.flux-3-video.prices[0].resolution: expected one of hd, fhd, got 8k",
        ),
    ],
)
def test_videos_that_cannot_be(said: str, flaw: str) -> None:
    (found,) = flaws(f"providers: {{{said}}}")
    assert found.startswith(f"providers.{flaw}")


def test_prices_of_videos_keep_their_resolution() -> None:
    served = build("prices: {usd_per_cny: 0.5}\nproviders: {dashscope: {api_key: k}}")
    caps = served.route("dashscope/wan2.7-i2v", "video").targets[0].caps
    assert {(rule.currency, rule.pixels) for rule in caps.prices} == {("USD", (0, 0))}
    assert [rule.resolution for rule in caps.prices] == ["720P", "1080P"]


def test_the_list_of_videos() -> None:
    text = FILMS.replace("kling: {api_key: k}", "kling: {api_key: k, models: {kling-2.6: {hidden: true}}}")
    served = build(text + "models: {sora-2: kling/kling-v3, gone: minimax/MiniMax-H3, house: bfl/flux-2-pro}")
    every, films = listing.listing(served), listing.listing(served, type="video")
    assert films == [each for each in every if each["type"] == "video"]
    assert [each["id"] for each in every if each["id"] in {"sora-2", "house"}] == ["sora-2", "sora-2", "house"]
    assert [each["type"] for each in every if each["id"] == "kling/kling-v3"] == ["image", "video"]
    assert "kling/kling-2.6" not in {each["id"] for each in every}
    gone = next(each for each in listing.listing(served, everything=True) if each["id"] == "gone")
    assert (gone["type"], gone["enabled"]) == ("video", False)
    assert listing.entry(served, "kling-v3")["type"] == "image"
    assert listing.entry(served, "kling-v3", "video")["type"] == "video"
    veo: dict[str, Any] = listing.entry(served, "veo-3.1-generate-001")
    assert veo["capabilities"] == {
        "tasks": ["create"], "text": True, "seconds": [4, 6, 8], "usual_seconds": 8, "extra_seconds": [],
        "clip_seconds": [0, 0], "first_frame": True, "last_frame": True, "references": 3,
        "references_beside_frames": False, "sound": "choice", "params": ["negative_prompt", "seed"],
        "options": sorted(translators.load_video("vertex").VIDEOS["veo-3.1-generate-001"].options),
    }  # fmt: skip
    assert (veo["type"], veo["resolutions"], veo["free_size"]) == ("video", ["720p", "1080p", "4k"], None)
    assert {rule["unit"] for rule in veo["price"]} == {"second"}


FILM_NAMES = ["sora-2", "sora-2-pro"]


@pytest.mark.parametrize("variable", ["VERTEX_API_KEY", "GEMINI_API_KEY", "ARK_API_KEY", "MINIMAX_API_KEY"])
def test_one_key_is_enough_for_sora(variable: str) -> None:
    served = catalog.build(config.load(SHIPPED, {variable: "k"}))
    for name in FILM_NAMES:
        assert len(served.route(name, "video").targets) == 1
    assert served.route(None, "video").name == "sora-2"
