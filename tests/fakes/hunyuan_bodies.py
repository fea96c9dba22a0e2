"""What Tencent's two image services take, member by member: TokenHub's paths, and the actions of the cloud's API."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

Seed: TypeAlias = Annotated[int, Meta(ge=1, le=4294967295)]
Flag: TypeAlias = Literal[0, 1]
Texts: TypeAlias = Annotated[str, Meta(min_length=1, max_length=8192)]
Footnote: TypeAlias = Annotated[str, Meta(max_length=16)]
Colon: TypeAlias = Annotated[str, Meta(pattern=r"^\d+:\d+$")]
Times: TypeAlias = Annotated[str, Meta(pattern=r"^\d+x\d+$")]
Eight: TypeAlias = Literal[
    "768:768", "768:1024", "1024:768", "1024:1024", "720:1280", "1280:720", "768:1280", "1280:768"
]  # fmt: skip


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


# ---- TokenHub


class Address(Body, kw_only=True):
    url: str


class Part(Body, kw_only=True):
    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: Address | None = None


class Message(Body, kw_only=True):
    role: Literal["user", "assistant"]
    content: list[Part]


class Search(Body, kw_only=True):
    value: bool


class Chat(Body, kw_only=True):
    model: Literal["hy-image-v3.5-preview"]
    messages: Annotated[list[Message], Meta(min_length=1)]
    size: Times | None = None
    generate_max_pixels: Literal[1048576, 2359296, 4194304] = 2359296
    resize_max_pixels: int | None = None
    seed: Seed | None = None
    footnote: Footnote | None = None
    session: str | None = None
    use_search_tool: Search | None = None


class Wand(Body, kw_only=True):
    model: Literal["hy-image-v3"]
    prompt: Texts
    images: Annotated[list[str], Meta(max_length=3)] = []
    size: Times = "1024x1024"
    seed: Annotated[int, Meta(ge=0, le=4294967295)] = 0
    revise: bool = True
    footnote: Footnote | None = None


class Submit(Body, kw_only=True):
    model: Literal["hy-image-v3.0"]
    prompt: Texts
    images: Annotated[list[str], Meta(max_length=3)] = []
    resolution: Colon = "1024:1024"
    seed: Seed | None = None
    revise: bool = True
    logo_add: Flag = 1
    logo_param: dict[str, Any] | None = None


class Query(Body, kw_only=True):
    model: Literal["hy-image-v3.0"]
    id: str


class Lite(Body, kw_only=True):
    model: Literal["hy-image-lite"]
    prompt: Annotated[str, Meta(min_length=1, max_length=1024)]
    negative_prompt: str | None = None
    resolution: Colon = "768:768"
    seed: Seed | None = None
    logo_add: Flag = 1
    logo_param: dict[str, Any] | None = None
    rsp_img_type: Literal["url", "base64"] = "base64"


class Seedream(Body, kw_only=True):
    model: Literal["seedream-image-v5.0-pro", "seedream-image-v5.0-lite", "seedream-image-v5.0-flash"]
    prompt: Annotated[str, Meta(min_length=1, max_length=600)]
    size: Annotated[str, Meta(pattern=r"^(\d+x\d+|1K|1\.5K|2K|3K|4K)$")] = "2K"
    images: Annotated[list[str], Meta(max_length=14)] = []
    response_format: Literal["url", "b64_json"] = "url"
    output_format: Literal["png", "jpeg"] = "jpeg"
    background: Literal["transparent", "opaque", "auto"] = "auto"
    sequential_image_generation: Literal["disabled"] = "disabled"
    layer_decomposition: bool | None = None


HUB: dict[str, type[Body]] = {
    "/v1/wand/hunyuan-image/v35-generation": Chat,
    "/v1/wand/hunyuan-image/v3-generation": Wand,
    "/v1/wand/si-image/generation": Seedream,
    "/v1/api/image/lite": Lite,
    "/v1/api/image/submit": Submit,
    "/v1/api/image/query": Query,
}

# ---- the cloud's API


class Content(Body, kw_only=True):
    ImageUrl: str | None = None
    ImageBase64: str | None = None


class Given(Body, kw_only=True):
    Url: str | None = None
    Base64: str | None = None


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    Resolution: Literal["origin", "768:768", "768:1024", "1024:768"]


class Marked(Body, kw_only=True):
    LogoAdd: Flag = 1
    LogoParam: dict[str, Any] | None = None


class Direct(Marked, kw_only=True):
    RspImgType: Literal["base64", "url"] = "base64"


class HunyuanJob(Marked, kw_only=True):
    Prompt: Annotated[str, Meta(min_length=1, max_length=1024)]
    NegativePrompt: Annotated[str, Meta(max_length=1024)] | None = None
    Style: str | None = None
    Resolution: Eight = "1024:1024"
    Num: Annotated[int, Meta(ge=1, le=4)] = 1
    Clarity: Literal["x2", "x4"] | None = None
    ContentImage: Content | None = None
    Revise: Flag = 1
    Seed: Annotated[int, Meta(ge=1)] | None = None


class ChatJob(Marked, kw_only=True):
    Prompt: Annotated[str, Meta(min_length=1, max_length=1024)]
    ChatId: str | None = None


class HunyuanLite(Direct, kw_only=True):
    Prompt: Annotated[str, Meta(min_length=1, max_length=256)]
    NegativePrompt: Annotated[str, Meta(max_length=256)] | None = None
    Style: Annotated[str, Meta(pattern=r"^\d{3}$")] = "201"
    Resolution: Eight | Literal["1080:1920", "1920:1080"] = "768:768"


class TextJob(Marked, kw_only=True):
    Prompt: Texts
    Images: Annotated[list[str], Meta(max_length=3)] = []
    Resolution: Colon = "1024:1024"
    Seed: Seed | None = None
    Revise: Flag = 1


class ProJob(Marked, kw_only=True):
    Prompt: Annotated[str, Meta(min_length=1, max_length=100)]
    Style: str | None = None
    Resolution: Eight = "1024:1024"
    Engine: Literal["engine1", "engine2"] = "engine1"
    Revise: Flag = 1


class Rapid(Direct, kw_only=True):
    Prompt: Annotated[str, Meta(min_length=1, max_length=256)]
    Resolution: Colon = "1024:1024"
    Seed: Annotated[int, Meta(ge=0)] = 0
    Image: Given | None = None
    Style: str | None = None


class AiartLite(Direct, kw_only=True):
    Prompt: Annotated[str, Meta(min_length=1, max_length=1024)]
    NegativePrompt: str | None = None
    Resolution: Colon = "1024:1024"
    Seed: Annotated[int, Meta(ge=0)] = 0


class Restyle(Direct, kw_only=True):
    InputImage: str | None = None
    InputUrl: str | None = None
    Prompt: Annotated[str, Meta(max_length=256)] | None = None
    NegativePrompt: Annotated[str, Meta(max_length=256)] | None = None
    Styles: tuple[str, ...] = ("201",)
    ResultConfig: Config = Config(Resolution="origin")
    Strength: Annotated[float, Meta(gt=0, le=1)] | None = None
    EnhanceImage: Flag = 0
    RestoreFace: Annotated[int, Meta(ge=0, le=6)] = 0


class Erase(Direct, kw_only=True):
    InputImage: str | None = None
    InputUrl: str | None = None
    Mask: str | None = None
    MaskUrl: str | None = None


class Outpaint(Direct, kw_only=True):
    Ratio: Literal["1:1", "4:3", "3:4", "16:9", "9:16"]
    InputImage: str | None = None
    InputUrl: str | None = None


class Background(Direct, kw_only=True):
    ProductUrl: str
    Prompt: Annotated[str, Meta(min_length=1, max_length=256)]
    NegativePrompt: Annotated[str, Meta(max_length=256)] | None = None
    Product: str | None = None
    BackgroundTemplate: str | None = None
    MaskUrl: str | None = None
    Resolution: Colon = "1280:1280"


class Refine(Body, kw_only=True):
    InputImage: str | None = None
    InputUrl: str | None = None
    RspImgType: Literal["base64", "url"] = "base64"


class Asked(Body, kw_only=True):
    JobId: str


ACTIONS: dict[tuple[str, str], type[Body]] = {
    ("2023-09-01", "SubmitHunyuanImageJob"): HunyuanJob,
    ("2023-09-01", "SubmitHunyuanImageChatJob"): ChatJob,
    ("2023-09-01", "TextToImageLite"): HunyuanLite,
    ("2022-12-29", "SubmitTextToImageJob"): TextJob,
    ("2022-12-29", "SubmitTextToImageProJob"): ProJob,
    ("2022-12-29", "TextToImageRapid"): Rapid,
    ("2022-12-29", "TextToImageLite"): AiartLite,
    ("2022-12-29", "ImageToImage"): Restyle,
    ("2022-12-29", "ImageInpaintingRemoval"): Erase,
    ("2022-12-29", "ImageOutpainting"): Outpaint,
    ("2022-12-29", "ReplaceBackground"): Background,
    ("2022-12-29", "RefineImage"): Refine,
}
ACTIONS |= {
    (version, action.replace("Submit", "Query")): Asked for version, action in ACTIONS if action.startswith("Submit")
}
SERVICES = {"2023-09-01": "hunyuan", "2022-12-29": "aiart"}
