"""What the tables say that no struct says of itself."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from proxy.config import (
    Alias,
    AliasTarget,
    Auth,
    Cache,
    Config,
    Fetch,
    Files,
    History,
    Key,
    Limits,
    Log,
    Metrics,
    Prices,
    Server,
    Tier,
    Webhook,
)
from proxy.providers import Model, Provider, Timeouts
from translators.base import FaultKind

More = Mapping[str, tuple[str, str, str]]

SECTIONS: tuple[tuple[str, str, type[msgspec.Struct], frozenset[str], More], ...] = (
    (
        "Top level", "The sections below are mappings of the same names.", Config,
        frozenset(Config.__struct_fields__)
        - {"data", "database", "redis", "secret", "default_model", "default_video_model"},
        {},
    ),
    ("server", "Where Pictor listens.", Server, frozenset(), {}),
    ("auth", "Who may call.", Auth, frozenset(), {}),
    ("auth.keys[]", "One client each.", Key, frozenset(), {}),
    (
        "auth.keys[].webhook", "Where the ends of its tasks are told: see [webhooks](webhooks.md).",
        Webhook, frozenset(), {},
    ),
    (
        "tiers.NAME",
        "What the keys of one tier may do. Each key has these limits for itself; null is \"no bound\". A key that was "
        "made with `pictor keys create` may have some of its own.",
        Tier, frozenset(), {},
    ),
    ("metrics", "Who may read `/metrics`, which shows what is spent.", Metrics, frozenset(), {}),
    ("history", "What is remembered of each call.", History, frozenset(), {}),
    ("files", "Made and uploaded files.", Files, frozenset(), {}),
    ("fetch", "Pictures that a client names by address.", Fetch, frozenset(), {}),
    ("limits", "What one request may bring. A model's own limits hold beside these.", Limits, frozenset(), {}),
    ("prices", "How prices become US dollars.", Prices, frozenset(), {}),
    ("log", "What is written to standard error.", Log, frozenset(), {}),
    (
        "providers.NAME",
        "One provider. The settings of its own and the names of its credentials stand beside these: see "
        "[providers](providers/README.md). A provider whose variable is set in the environment needs no entry.",
        Provider, frozenset({"logins", "site", "off"}),
        {
            "enabled": ("true or false", "`true`", "Whether it is served."),
            "api_key": ("text or `file:/path`", "from the environment", "Its credential, where it takes keys."),
            "keys": (
                "list of mappings", "–",
                "Several credentials, which share the load: `[{api_key: …}, {api_key: …}]`. Instead of one beside it.",
            ),
        },
    ),
    (
        "providers.NAME.timeouts", "How long to wait. A model may have others, under its own `timeouts`.",
        Timeouts, frozenset(), {},
    ),
    (
        "providers.NAME.models.MODEL",
        "What is different from what is known of a model, or what a model is that no release knows. Every one of the "
        "[capabilities](#capabilities), and each of the provider's own settings, may stand beside these.",
        Model, frozenset({"caps", "site"}), {},
    ),
    (
        "models.ALIAS",
        "A name of your own. A list of `provider/model` is short for `targets` alone. Targets whose "
        "provider is not configured are skipped.",
        Alias, frozenset(), {},
    ),
    ("models.ALIAS.targets[]", "One place where an alias leads.", AliasTarget, frozenset(), {}),
    ("models.ALIAS.cache", "Answers that are given again to the same request.", Cache, frozenset(), {}),
)  # fmt: skip
"""Path, introduction, struct, fields that do not stand in the file, and settings that are no fields."""

MEANINGS: Mapping[tuple[str, str], str] = {
    ("Config", "data"): "The folder of the embedded database, of made and uploaded files, and of the secret where none "
    "is set.",
    ("Config", "database"): "`postgresql://user:password@host/name`, where several machines share the work; it needs "
    "`secret`. Or `sqlite:///path`. null: SQLite in `data`.",
    ("Config", "redis"): "`redis://`, `rediss://` or `unix://`: limits that all processes share. null: they are shared "
    "through the database.",
    ("Config", "default_video_model"): "For videos; null: `sora-2`, where an alias of that name leads somewhere.",
    ("Config", "secret"): "Signs links and digests keys; at least 16 characters, the same on all machines. null: made "
    "at first use and kept in `data`.",
    ("Server", "host"): "The address to listen on.",
    ("Server", "trusted_proxies"): "Addresses or networks whose `X-Forwarded-For` is believed: `10.0.0.0/8`.",
    ("Key", "name"): "For the log and the history.",
    ("Key", "key"): "What the client sends. An empty one counts as absent.",
    ("Key", "admin"): "Whether it may read `/metrics` and use `/v1/admin`.",
    ("Key", "tier"): "One of `tiers`; null: `auth.default_tier`.",
    ("Auth", "keys"): "The clients' keys, a mapping each.",
    (
        "Auth",
        "mode",
    ): "`keys`: clients need one of `keys`, or one that was made with `pictor keys create`. `open`: nobody needs one. "
    "`auto`: `keys` as soon as there is one, else `open`.",
    ("Auth", "default_tier"): "Of keys without one, and of everybody where nobody needs one. null: no limits.",
    ("Auth", "cache_seconds"): "How long a good key is not looked up again, so how long a revoked one may still work.",
    ("Auth", "open_anywhere"): "Has to be true beside `mode: open` where `server.host` is no loopback address.",
    ("Key", "webhook"): "See below.",
    ("Webhook", "url"): "Where a request names no `webhook_url` of its own. null: nowhere.",
    ("Webhook", "secrets"): "The newest first; all of them sign. `whsec_` and the base64 of 16 bytes or more. "
    "Empty: one of Pictor's own making.",
    ("Key", "models"): "Patterns of the names that it may ask for: `demo/*`, `dall-e-?`.",
    ("Tier", "models"): "Patterns of the names that may be asked for: `demo/*`, `dall-e-?`.",
    ("Tier", "max_size"): "Such as `2048x2048`: no picture of more pixels.",
    ("Tier", "priority"): "Where jobs wait for a place at their provider, those of a higher priority go first.",
    ("Tier", "budget_usd_per_day"): "From midnight to midnight, UTC. Needs `history.enabled`.",
    ("Tier", "budget_usd_per_month"): "Of a calendar month, UTC. Needs `history.enabled`.",
    ("History", "enabled"): "false: no call is remembered, nothing is counted for each key, no budget holds, and "
    "nothing can be asked for again.",
    ("History", "prompts"): "Whether prompts are remembered with it.",
    ("History", "outputs"): "Whether the made files are kept too, so that a cut client can ask again.",
    ("History", "retention"): "Of all but the files, which have their own; null: for ever.",
    ("Cache", "seconds"): "How long an answer is given again.",
    ("Cache", "shared"): "Whether it is also given to other keys.",
    (
        "Files",
        "retention",
    ): "How long made files are kept; null: for ever. Uploads stay until they expire or are deleted.",
    ("Files", "store"): "`s3://bucket/prefix`, `gs://…` or `az://…`; null: the folder `files` in `data`.",
    (
        "Files",
        "options",
    ): "Of the store: `endpoint`, `region`, `access_key_id`, `secret_access_key`. Of the connection: "
    "`timeout`, `connect_timeout`, `proxy_url`, `allow_http`, `allow_invalid_certificates`. Each may be `file:/path`.",
    ("Files", "presign"): "Whether links to made files redirect to the store's own: s3, gs and az alone.",
    ("Files", "hosting"): "`passthrough`: an answer with `url` may hold the provider's own link, which dies when the "
    "provider wants. `store`: the picture is fetched and kept here.",
    ("Fetch", "max_bytes"): "Of one picture.",
    ("Fetch", "seconds"): "For one picture, redirects included.",
    ("Limits", "body_bytes"): "Of the whole request.",
    ("Limits", "image_bytes"): "Of one picture.",
    ("Limits", "images"): "Pictures in one request; never more than 16.",
    ("Alias", "targets"): "Where it leads, in order.",
    ("Alias", "fallback_on"): "After which [kinds of fault](errors.md) the next target is tried. null: after "
    "`overloaded`, `rate`, `timeout`, `upstream`, `empty`, `auth`, `permission`, `quota`, `missing`.",
    ("Alias", "cache"): "See below; null: each request is made.",
    ("Alias", "hosting"): "As in `files`, for this alias; null: the same as there.",
    ("AliasTarget", "model"): "`provider/model`.",
    ("Prices", "usd_per_cny"): "US dollars for one yuan. null: what is priced in CNY has no known cost.",
    ("Prices", "unknown"): "What a key with a budget gets of a model whose price is not known: `refuse` it, or `allow` "
    "what no budget can bound.",
    ("Log", "level"): "The least that is written.",
    ("Log", "format"): "One JSON object a line, or text for a terminal.",
    ("Provider", "translator"): "Which provider's API it speaks. Default: the one of the same name.",
    ("Provider", "region"): "Where the provider has several. Default: the first that its page names.",
    ("Provider", "timeouts"): "See below.",
    ("Provider", "models"): "See below.",
    ("Provider", "concurrency"): "Jobs at once, over all processes; others wait: see "
    "[limits of providers](operations.md#limits-of-providers). 0: no bound.",
    ("Provider", "per_minute"): "Jobs that begin within a minute, wherever that begins; likewise. 0: no bound.",
    ("Timeouts", "connect"): "Until there is a connection.",
    ("Timeouts", "video"): "Instead of `job`, where a video is made. A model has `job` alone.",
    ("Model", "type"): "What it makes. Needed where nobody knows, as at a server of your own, and for a model's videos "
    "where one of that name makes pictures too. Default: what it, or the one it is `like`, is known to make.",
    ("Model", "timeouts"): "Those that differ from the provider's.",
    ("Caps", "ops"): "What it does: `generate`, `edit`, `variation`.",
    ("Caps", "prompt_chars"): "Of the longest prompt; 0: it reads none.",
    ("Caps", "sizes"): "A closed list of sizes, such as `1024x1024`.",
    ("Caps", "free"): "Any size within bounds: `step`, `pixels`, `edge`, `ratio`.",
    ("Caps", "ratios"): "Aspect ratios that can be asked for; the provider picks the pixels.",
    ("Caps", "resolutions"): "Ascending, in the model's spelling: 512, 1K, 1.5K, 2K, 4K.",
    ("Caps", "pixels_of"): "What the provider makes of a ratio and a resolution, where that is known: "
    '`"16:9@2K": [2752, 1536]`.',
    ("Caps", "input_bytes"): "Bytes of one picture that it takes.",
    ("Caps", "input_pixels"): "Width x height of one picture that it takes; 0: no bound.",
    ("Caps", "input_edge"): "Least and most of either edge of a picture that it takes; 0: no bound.",
    ("Caps", "formats"): "Output formats that can be asked for, best first. Empty: it gives what it gives.",
    ("Caps", "qualities"): "Values of `quality`, ascending.",
    ("Caps", "backgrounds"): "Values of `background`: `transparent`, `opaque`, `auto`.",
    ("Caps", "streams"): "Whether it sends real events.",
    ("Caps", "params"): "Further fields that it takes: `seed`, `steps`, `user` …. `input_fidelity` is `fidelity` here.",
    ("Caps", "options"): "Names in `provider_options`; `*` for any.",
    ("Caps", "ends"): "The day of its shutdown, such as 2026-12-01.",
    ("Caps", "auto_size"): "Whether the size may be left out.",
    (
        "Caps",
        "keeps",
    ): "Where the picture's own shape stays, whatever size is asked for: `edit`, `variation`, `mask` (edits "
    "with a mask), `single` (edits of one picture).",
    ("Caps", "mask"): "Whether it takes a mask, and which part of it is edited.",
    ("Caps", "markup"): "Whether it takes OpenAI's `markup` picture.",
    ("Caps", "inputs"): "How it takes pictures. `url` needs `server.public_url`.",
    ("Caps", "input_types"): "Of the pictures that it takes; others are converted.",
    ("Caps", "compression"): "Whether it takes `output_compression`.",
    ("Caps", "prices"): "Price rules; all that fit are added up.",
    (
        "VideoCaps",
        "tasks",
    ): "What it does: `create` from text, frames or references; `edit` or `extend` a clip; `remix` "
    "an earlier result by another prompt.",
    ("VideoCaps", "seconds"): "Every length that it makes, ascending.",
    (
        "VideoCaps",
        "clip_inputs",
    ): "How it takes a clip. `url` needs `server.public_url`; `none`: only an earlier result.",
    ("VideoCaps", "clip_types"): "Of the clips that it takes.",
    ("VideoCaps", "clip_bytes"): "Bytes of one clip that it takes.",
    ("VideoCaps", "clip_seconds"): "Least and most of a clip to edit or extend; 0: no bound.",
    ("VideoCaps", "sizes"): "A closed list of sizes, such as `1280x720`.",
    ("VideoCaps", "ratios"): "Aspect ratios that can be asked for.",
    ("VideoCaps", "pixels_of"): 'The size of a ratio and a resolution: `"16:9@720p": [1280, 720]`.',
    ("VideoCaps", "frames_shape"): "Whether a first frame decides the ratio, so that none is sent beside it.",
    ("VideoCaps", "first"): "Whether it takes a first frame.",
    ("VideoCaps", "last"): "Whether it takes a last frame beside it.",
    ("VideoCaps", "mixes"): "Whether it takes references beside frames.",
    ("VideoCaps", "prompt_chars"): "Of the longest prompt.",
    ("VideoCaps", "inputs"): "How it takes pictures. `url` needs `server.public_url`.",
    ("VideoCaps", "input_types"): "Of the pictures that it takes; others are converted.",
    ("VideoCaps", "input_bytes"): "Bytes of one picture that it takes.",
    ("VideoCaps", "input_edge"): "Least and most of either edge of a picture that it takes; 0: no bound.",
    ("VideoCaps", "sound"): "Whether its videos have sound; `choice`: as the request asks.",
    ("VideoCaps", "params"): "Further fields that it takes: `seed`, `negative_prompt`, `watermark` ….",
    ("VideoCaps", "options"): "Names in `provider_options`; `*` for any.",
    ("VideoCaps", "prices"): "Price rules, by `second` as a rule; all that fit are added up.",
    ("VideoCaps", "ends"): "The day of its shutdown, such as 2026-12-01.",
    ("VideoCaps", "note"): "One sentence for the model list.",
}
"""Struct and field -> its meaning, where its comment says none or is written for another reader."""

FAULTS: Mapping[FaultKind, str] = {
    "invalid": "`invalid`: the request",
    "policy": "`policy`: its content was refused",
    "missing": "`missing`: no such path, file, task or key",
    "auth": "`auth`: no good key, the client's or the gateway's",
    "permission": "`permission`: the key may not do this",
    "quota": "`quota`: the money is used up: the budget of the key, or the provider account's",
    "rate": "`rate`: a limit of the key's tier, or the provider's rate limit",
    "overloaded": "`overloaded`: the provider has no room now, or this server, its database or its store",
    "upstream": "`upstream`: the provider failed, or answered what cannot be read",
    "empty": "`empty`: the provider reported success without a picture",
    "timeout": "`timeout`: no answer in time",
    "cancelled": "`cancelled`: the client closed the connection",
}

CODES: Mapping[str, tuple[FaultKind, str]] = {
    "admin_key_required": (
        "permission",
        "`/v1/admin`, or `/metrics` from another machine, with a key that is not `admin`.",
    ),
    "ambiguous": ("upstream", "The provider's answer was lost. The picture may have been made and charged."),
    "array_above_max_length": ("invalid", "Too many items, such as more pictures than the model takes."),
    "array_below_min_length": ("invalid", "Too few items."),
    "queue_full": (
        "overloaded",
        "No place came free in time at a provider whose `concurrency` or `per_minute` is set. Nothing was sent.",
    ),
    "breaker_open": ("overloaded", "The model failed five times in a row and rests for 30 seconds."),
    "cancelled": ("cancelled", "A video was cancelled before it was made."),
    "database_unavailable": (
        "overloaded",
        "The database cannot be reached. No call is begun that could not be written down.",
    ),
    "delivery_not_found": ("missing", "`pictor webhooks` knows no such delivery."),
    "deadline_exceeded": ("timeout", "The job took longer than the provider's `timeouts.job`."),
    "download_failed": ("upstream", "The made picture could not be downloaded from the provider."),
    "draining": ("overloaded", "The server is stopping and takes no new work."),
    "duplicate_parameter": ("invalid", "A form names a field twice."),
    "empty_array": ("invalid", "A list without items."),
    "empty_string": ("invalid", "A text without characters."),
    "foreign_host": ("upstream", "The provider named an address that is not fetched or asked."),
    "foreign_origin": ("permission", "A browser asked for a page of another site, and the server has no keys."),
    "history_disabled": ("missing", "The server keeps no history: `history.enabled` is false."),
    "idempotency_key_reused": ("invalid", "The `Idempotency-Key` was used with another request."),
    "image_too_large": ("invalid", "A picture cannot be brought within the model's limits."),
    "image_too_small": ("invalid", "A picture has fewer pixels than the model needs."),
    "internal_error": ("upstream", "A fault of Pictor's own. It is in the log under the request id."),
    "insufficient_quota": (
        "quota",
        "The key's budget has not enough left for what the call may cost; or the provider account's money is used up.",
    ),
    "interrupted": (
        "upstream",
        "The server's process ended while it worked on this. The picture may have been made and charged.",
    ),
    "invalid_api_key": ("auth", "The key is not known."),
    "invalid_image_file": ("invalid", "A picture cannot be read, or is too large."),
    "invalid_mask_image_format": (
        "invalid",
        "The mask has another size than the first picture, or no transparent pixel.",
    ),
    "invalid_signature": ("permission", "A link to a made picture was changed."),
    "invalid_type": ("invalid", "A value of another type."),
    "invalid_value": ("invalid", "A value that cannot be. Also for `model`, where there is no such model."),
    "key_fixed": ("invalid", "The key is not one that was made: its webhook secret cannot be rotated."),
    "key_not_found": ("missing", "`/v1/admin/keys` knows no such key."),
    "key_revoked": ("invalid", "The key is revoked and cannot be changed."),
    "link_expired": ("permission", "A link to a made picture has ended."),
    "method_not_supported": ("invalid", "The path knows no such method."),
    "missing_api_key": ("auth", "No key was sent."),
    "missing_required_parameter": ("invalid", "A field is missing."),
    "model_not_allowed": ("permission", "The client's key may not use this model."),
    "model_not_found": ("missing", "`GET /v1/models/…` of a model that does not exist."),
    "name_taken": ("invalid", "Another key has that name."),
    "given_up": ("upstream", "Process after process ended while it worked on this task: it is not begun again."),
    "not_begun": ("upstream", "The server was stopped before this part of the call was begun. Nothing was sent."),
    "no_credential": ("auth", "The provider has no credential left to try."),
    "no_image": ("empty", "The provider answered without a picture."),
    "object_above_max_properties": ("invalid", "Too many pairs in `metadata`."),
    "output_not_found": ("missing", "No such made picture: it was not kept, was deleted, or is past its time."),
    "price_unknown": (
        "quota",
        "The key has a budget, and the price of the model is not known: see `prices.unknown`.",
    ),
    "poster_unavailable": (
        "invalid",
        "No thumbnail or spritesheet can be made of this video; 404 where the extra `video` is not installed.",
    ),
    "provider_auth_failed": ("auth", "The provider does not accept the gateway's credential."),
    "public_url_required": ("invalid", "The model takes pictures by address only, and `server.public_url` is not set."),
    "rate_limit_exceeded": (
        "rate",
        "A limit of the key's tier or of the provider; or too many wrong keys came from the client's address.",
    ),
    "request_too_large": (
        "invalid",
        "The body is larger than `limits.body_bytes`, or a file than `files.upload_bytes`.",
    ),
    "server_is_overloaded": ("overloaded", "The server or the provider has no room now."),
    "storage_full": ("overloaded", "The store of files is full."),
    "storage_unavailable": ("overloaded", "The store of files cannot be reached."),
    "string_above_max_length": ("invalid", "A text is too long."),
    "submit_uncertain": (
        "upstream",
        "The server was stopped while it handed the task to the provider. It may be made and charged.",
    ),
    "task_cancelled": ("cancelled", "The task was cancelled."),
    "task_not_found": ("missing", "No such task of this key: it was deleted, or is past `history.retention`."),
    "task_not_resumable": ("invalid", "The task has ended, and its provider has nothing of it to be asked for."),
    "task_running": ("invalid", "The task has not ended, so it cannot be deleted."),
    "thumbnail_unavailable": ("invalid", "The file is no picture of which a thumbnail can be made."),
    "tier_unknown": (
        "permission",
        "The key's tier is no longer in the configuration, or its own limits cannot be read.",
    ),
    "token_unavailable": ("upstream", "No token could be got for the provider's credential."),
    "too_large": ("upstream", "The provider's answer is larger than is read."),
    "truncated": ("upstream", "The provider's answer ended in the middle."),
    "unknown_parameter": ("invalid", "A field that no request has, or an option that the model does not take."),
    "unknown_url": ("missing", "No such path."),
    "unreachable": ("upstream", "The provider cannot be connected to. Nothing was sent."),
    "unreadable": ("upstream", "The provider's answer, or the picture in it, cannot be read."),
    "unsupported_content_type": ("invalid", "The body's content type is not one that this call reads."),
    "unsupported_file_mimetype": ("invalid", "A file that is no picture of a kind that can be read."),
    "unsupported_operation": ("invalid", "An operation that no provider has, such as a video of a character."),
    "unsupported_parameter": ("invalid", "With `x-pictor-strict`: a field that the model would not have honoured."),
    "unsupported_size": ("invalid", "The picture cannot be written in this format at its size."),
    "video_not_ready": ("invalid", "The video that is to be changed is not made yet, or has failed."),
    "video_too_large": ("invalid", "A clip has more bytes than the model takes."),
}
"""Code -> the kind of fault that it comes with, and its meaning."""

LABELS: Mapping[str, str] = {
    "route": "a route template such as `/v1/images/generations`; `other` for unknown paths",
    "method": "an HTTP method, or `other`",
    "status": "the HTTP status",
    "op": "`generate`, `edit`, `variation`",
    "provider": "a configured provider's name, or `other`",
    "model": "a provider's own model id, or `other`",
    "outcome": "`ok`; `partial`: some of `n` are missing; else the [kind of fault](errors.md)",
    "phase": "`queue`, `submit`, `wait`, `download`, `convert`, `store`",
    "tier": "of `pictures_total` `1k`: up to 1.5 megapixels, `2k`: up to 6, `4k`: more; of `limited_total` a tier "
    "of the configuration, or `none`",
    "direction": "`in`, `out`",
    "modality": "`text`, `image`",
    "reason": "the kind of fault; of `auth_failures_total` `missing_api_key`, `invalid_api_key`, or `provider` for the "
    "gateway's own credential; of `fetch_refused_total` `address`: it is not public",
    "call": "`submit`, `poll`, `fetch`",
    "result": "of a call: `2xx`, `3xx`, `4xx`, `429`, `5xx`, `timeout`, `reset`, `ambiguous`; "
    "of a reload: `ok`, `failed`; "
    "of a webhook: `delivered`, `retried`, `given_up`, or `refused`: its address is not public",
    "alias": "an alias of the configuration, `none` where the client named a model, or `other`",
    "target": "`provider/model`, or `other`",
    "param": "a field of the request, or `other`",
    "action": "`converted`, `noted`, `refused`",
    "source": "who named the address: `client`, `provider`",
    "limit": "`requests`, `images`, `concurrent`, `budget`",
    "how": "of `results_recovered_total` `key`: by its `Idempotency-Key`, `retry`: by an SDK's own try again; of "
    "`cache_hits_total` `kept`: made before, `joined`: being made for another call",
    "backend": "`local`, `s3`, `gs`, `az`",
    "what": "`outputs`: made pictures and thumbnails; `uploads`; `evicted`: tasks whose pictures went for "
    "`files.max_bytes`; `tasks`; `claims`: Idempotency-Keys; `deliveries`: of webhooks",
    "metric": "the metric whose labels were too many",
    "version": "Pictor's version",
    "python": "Python's version",
}

FIELDS: Mapping[str, str] = {
    "image_urls": "Pictures by http(s) or `data:` address, at most 16. On a generation they are references, as on "
    "an edit without a mask.",
    "metadata": "Up to 16 pairs of your own. Kept with the task, which `GET /v1/tasks?metadata[project]=x` finds; "
    "not sent to the provider.",
    "webhook_url": "Where the end of the call's task is told: see [webhooks](docs/webhooks.md).",
    "provider_options": "The provider's own parameters by their own names, either flat or keyed by provider: "
    '`{"bfl": {"safety_tolerance": 2}}`. Only those that the model takes.',
}
