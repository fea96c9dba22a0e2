"""What LiblibAI's calls take: a struct for each path and template, every range as the service has it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta


def camel(name: str) -> str:
    """The wire's spelling, which keeps to it but for these."""
    if name in {"guidance_scale", "image_list", "image_urls"}:
        return name
    return re.sub(r"_(.)", lambda found: found[1].upper(), name)


Edge: TypeAlias = Annotated[int, Meta(ge=128, le=2048)]
Prompt: TypeAlias = Annotated[str, Meta(min_length=1, max_length=2000)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=4)]
Seed: TypeAlias = Annotated[int, Meta(ge=-1, le=9_999_999_999)]
Unit: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Flag: TypeAlias = Literal[0, 1]
Name: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class Params(msgspec.Struct, forbid_unknown_fields=True, rename=camel, kw_only=True):
    prompt: Prompt
    img_count: Count


class Sized(msgspec.Struct, forbid_unknown_fields=True, rename=camel):
    width: Annotated[int, Meta(ge=512, le=2048)]
    height: Annotated[int, Meta(ge=512, le=2048)]


class Control(msgspec.Struct, forbid_unknown_fields=True, rename=camel):
    control_type: Literal["line", "depth", "pose", "IPAdapter", "subject"]
    control_image: str


class UltraText(Params, kw_only=True):
    image_size: Sized | None = None
    aspect_ratio: Literal["square", "portrait", "landscape"] | None = None
    steps: int = 30
    prompt_magic: Flag = 0
    controlnet: Control | None = None


class UltraImage(Params, kw_only=True):
    source_image: str
    prompt_magic: Flag = 0
    controlnet: Control | None = None


class Network(msgspec.Struct, forbid_unknown_fields=True, rename=camel):
    model_id: Name
    weight: Annotated[float, Meta(ge=-4, le=4)] = 0.8


class Custom(Params, kw_only=True):
    check_point_id: Name | None = None
    additional_network: Annotated[list[Network], Meta(max_length=5)] = []
    vae_id: str = ""
    negative_prompt: Annotated[str, Meta(max_length=2000)] = ""
    clip_skip: Annotated[int, Meta(ge=1, le=12)] = 2
    sampler: int | None = None
    steps: Annotated[int, Meta(ge=1, le=60)]
    cfg_scale: Annotated[float, Meta(ge=1, le=15)] | None = None
    randn_source: Flag = 0
    seed: Seed
    restore_faces: Flag = 0
    hi_res_fix_info: dict[str, Any] | None = None
    control_net: Annotated[list[dict[str, Any]], Meta(max_length=4)] = []


class CustomText(Custom, kw_only=True):
    width: Annotated[int, Meta(ge=128, le=1536)]
    height: Annotated[int, Meta(ge=128, le=1536)]


class Qwen(Custom, kw_only=True):
    width: Edge
    height: Edge


class CustomImage(Custom, kw_only=True):
    source_image: str
    resize_mode: Literal[0, 1, 2]
    resized_width: Edge
    resized_height: Edge
    mode: Literal[0]
    denoising_strength: Unit


class Inpaint(msgspec.Struct, forbid_unknown_fields=True, rename=camel):
    mask_image: str
    mask_blur: Annotated[int, Meta(ge=0, le=64)]
    mask_padding: Annotated[int, Meta(ge=0, le=256)]
    mask_mode: Flag
    inpaint_area: Flag
    inpainting_fill: Literal[0, 1, 2, 3]


class CustomMask(CustomImage, kw_only=True):
    mode: Literal[4]  # type: ignore[assignment]  # the one value that this template takes
    inpaint_param: Inpaint


class Kontext(Params, kw_only=True):
    model: Literal["pro", "max"] = "max"
    aspect_ratio: Literal["1:1", "2:3", "3:2", "3:4", "4:3", "9:16", "16:9", "9:21", "21:9"] = "1:1"
    guidance_scale: Annotated[float, Meta(ge=1, le=20)] = 3.5


class KontextImage(Kontext, kw_only=True):
    image_list: Annotated[list[str], Meta(min_length=1, max_length=4)]


class Img1(Params, kw_only=True):
    aspect_ratio: Literal["auto", "square", "portrait", "landscape"] = "auto"
    quality: Literal["turbo", "normal", "masterpiece"] | None = None
    image_list: Annotated[list[str], Meta(min_length=1, max_length=8)] = []


class Img1Mask(Params, kw_only=True):
    aspect_ratio: Literal["auto", "square", "portrait", "landscape"] = "auto"
    quality: Literal["turbo", "normal", "masterpiece"] | None = None
    image: str
    mask: str


class LibDream(Params, kw_only=True):
    use_pre_llm: bool = False
    width: Annotated[int, Meta(ge=512, le=3072)] = 1328
    height: Annotated[int, Meta(ge=512, le=3072)] = 1328
    scale: Annotated[float, Meta(ge=1, le=10)] = 2.5
    seed: Seed = -1


class LibEdit(Params, kw_only=True):
    prompt_magic: Flag = 0
    scale: Unit = 0.5
    seed: Seed = -1
    image_urls: Annotated[list[str], Meta(min_length=1, max_length=1)]


class LibEdit2(LibEdit, kw_only=True):
    width: Annotated[int, Meta(ge=512, le=2016)] = 1328
    height: Annotated[int, Meta(ge=512, le=2016)] = 1328


class Seedream(Params, kw_only=True):
    img_count: Annotated[int, Meta(ge=1, le=15)]
    model: Literal["doubao-seedream-4-0-250828", "doubao-seedream-4-5-251128"] = "doubao-seedream-4-0-250828"
    prompt_magic: Flag = 0
    width: Annotated[int, Meta(ge=1, le=8192)] = 2048
    height: Annotated[int, Meta(ge=1, le=8192)] = 2048
    reference_images: Annotated[list[str], Meta(max_length=14)] = []
    sequential_image_generation: Literal["disabled", "auto"] = "disabled"


class Workflow(msgspec.Struct, kw_only=True, rename=camel):
    """Beside the id stand the nodes."""

    workflow_uuid: Name


WEBUI, OTHERS, COMFY = "webui/status", "status", "comfy/status"
FAMILIES: dict[tuple[str, str], tuple[type[msgspec.Struct], str]] = {
    ("webui/text2img/ultra", "5d7e67009b344550bc1aa6ccbfa1d7f4"): (UltraText, WEBUI),
    ("webui/img2img/ultra", "07e00af4fc464c7ab55ff906f8acf1b7"): (UltraImage, WEBUI),
    ("webui/text2img", "6f7c4652458d4802969f8d089cf5b91f"): (CustomText, WEBUI),
    ("webui/text2img", "e10adc3949ba59abbe56e057f20f883e"): (CustomText, WEBUI),
    ("webui/text2img", "7d888009f81d4252a7c458c874cd017f"): (CustomText, WEBUI),
    ("webui/text2img", "bf085132c7134622895b783b520b39ff"): (Qwen, WEBUI),
    ("webui/img2img", "9c7d531dc75f476aa833b3d452b8f7ad"): (CustomImage, WEBUI),
    ("webui/img2img", "63b72710c9574457ba303d9d9b8df8bd"): (CustomImage, WEBUI),
    ("webui/img2img", "74509e1b072a4c45a7f1843a963c8462"): (CustomMask, WEBUI),
    ("kontext/text2img", "fe9928fde1b4491c9b360dd24aa2b115"): (Kontext, OTHERS),
    ("kontext/img2img", "1c0a9712b3d84e1b8a9f49514a46d88c"): (KontextImage, OTHERS),
    ("smart-img1/generate", "86c58ea26e9a45bd9f562c6306c17c0f"): (Img1, OTHERS),
    ("smart-img1/inpaint", "0fb3ddb15a094e74b1241fbda5db3199"): (Img1Mask, OTHERS),
    ("libDream", "aa835a39c1a14cfca47c6fc941137c51"): (LibDream, OTHERS),
    ("libEdit", "cd3a6751086b4483ba5f0523aef53a79"): (LibEdit, OTHERS),
    ("libEditV2", "c92f91c771db42e2b5dbff66e2e4f7a2"): (LibEdit2, OTHERS),
    ("seedreamV4", "0b6bad2fd350433ebb5abc7eb91f2ec9"): (Seedream, OTHERS),
    ("comfyui/app", "4df2efa0f18d46dc9758803e478eb51c"): (Workflow, COMFY),
}


class Submit(msgspec.Struct, forbid_unknown_fields=True, rename=camel):
    template_uuid: Name
    generate_params: msgspec.Raw


class Status(msgspec.Struct, forbid_unknown_fields=True, rename=camel):
    generate_uuid: str


class Wish(msgspec.Struct, forbid_unknown_fields=True, rename=camel):
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    extension: Literal["jpg", "jpeg", "png"]
