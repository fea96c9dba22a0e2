"""DashScope (Alibaba Cloud Model Studio, Bailian): Qwen-Image, Wan and Z-Image.

    POST /services/aigc/…  -> the pictures, or with `X-DashScope-Async` {"output": {"task_id"}}
    GET  /tasks/{id}       -> {"output": {"task_status", "results" or "choices"}}
    POST /tasks/{id}/cancel, while it is pending

`models` says what each model can do and on which of the four wires; `images` speaks them, `uploads` is the temporary
storage for large pictures, `faults` reads refusals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from translators.base import Provider
from translators.base import bearer as sign
from translators.base import no_events as event
from translators.dashscope.faults import check
from translators.dashscope.images import SOON, cancel, start, step
from translators.dashscope.models import MODELS, caps

__all__ = ["MODELS", "PROVIDER", "base", "cancel", "caps", "check", "event", "sign", "start", "step"]

BASES = {
    "cn-beijing": "https://dashscope.aliyuncs.com/api/v1",
    "ap-southeast-1": "https://dashscope-intl.aliyuncs.com/api/v1",
    "us-east-1": "https://dashscope-us.aliyuncs.com/api/v1",
    "cn-hongkong": "https://cn-hongkong.dashscope.aliyuncs.com/api/v1",
    "eu-central-1": "",  # these two are only reached by a workspace's own host
    "ap-northeast-1": "",
}
PROVIDER = Provider(
    title="Alibaba Cloud DashScope",
    env={"api_key": "DASHSCOPE_API_KEY"},
    settings=frozenset({"workspace"}),
    regions=tuple(BASES),
    docs="https://www.alibabacloud.com/help/en/model-studio/",
    poll_seconds=SOON,
)
WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def base(site: Mapping[str, str]) -> str:
    """Where a region answers; with a workspace its own host, which the vendor advises."""
    if url := site.get("base_url", ""):
        return url.rstrip("/")
    region = site.get("region") or PROVIDER.regions[0]
    if workspace := site.get("workspace", ""):
        return f"https://{workspace}.{region}.maas.aliyuncs.com/api/v1" if WORKSPACE.fullmatch(workspace) else ""
    return BASES[region]
