"""Google Vertex AI: the Gemini API's bodies at another address, and Imagen's editing and upscaling.

With a project: an OAuth token, and a path that names project and location. Without one ("express mode"): an API key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from translators import gemini
from translators.base import Call, Caps, Fault, Job, Media, Price, Provider, Reply, base64, prompted
from translators.gemini import changed, chosen, event, sign, step
from translators.google import fault_in, worded

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

GLOBAL_HOST = "aiplatform.googleapis.com"
REGIONAL = ("imagen", "veo")  # families that are not served at `global`
REGION = "us-central1"  # where they are asked for then
REGION_HOST = f"{REGION}-{GLOBAL_HOST}"

PROVIDER = Provider(
    title="Google Vertex AI",
    env={
        "api_key": "VERTEX_API_KEY",
        "credentials": "GOOGLE_APPLICATION_CREDENTIALS",
        "project": "GOOGLE_CLOUD_PROJECT",
        "location": "GOOGLE_CLOUD_LOCATION",
    },
    settings=frozenset({"project", "location"}),
    hosts=frozenset({GLOBAL_HOST, REGION_HOST}),
    credential="key-or-token",
    docs="https://cloud.google.com/vertex-ai/generative-ai/docs/image/overview",
)

INPUT_BYTES = 7_000_000  # of one inline picture
INPUT_TYPES = ("image/png", "image/jpeg")  # of Imagen
ENDS = {"gemini-2.5-flash-image": "2027-03-15"}
NOTES = {"gemini-3.1-flash-image": "Nano Banana 2. Ten per cent dearer where the location is not global."}

IMAGEN = changed(
    gemini.IMAGEN,
    params=frozenset({"guidance", "moderation", "seed", "watermark"}),
    options=gemini.IMAGEN.options | {"enhancePrompt", "labels"},
    input_bytes=INPUT_BYTES,
    note="Deprecated by Google. Needs a project, and a region: us-central1 is taken where the location is global.",
)
CAPABILITY = changed(
    IMAGEN,
    ops=frozenset({"edit", "variation"}),
    ratios=(),
    resolutions=(),
    pixels_of={},
    max_images=4,
    input_types=INPUT_TYPES,
    mask="white-edits",
    params=IMAGEN.params | {"negative_prompt", "steps"},
    options=IMAGEN.options - {"enhancePrompt"}
    | {"editMode", "maskImageConfig", "styleImageConfig", "subjectImageConfig"},
    prices=(Price(unit="image", amount=0.04),),
    note="Edits inside a mask. Several pictures are references: provider_options.subjectImageConfig or "
    "styleImageConfig says of what, and the prompt names them [1], [2].",
)
UPSCALE = changed(
    IMAGEN,
    ops=frozenset({"edit"}),
    max_n=1,
    ratios=(),
    resolutions=(),
    pixels_of={},
    max_images=1,
    input_types=INPUT_TYPES,
    input_pixels=4_250_000,  # at most 17 megapixels come out
    params=frozenset(),
    options=frozenset({"upscaleConfig", "labels"}),
    note="Enlarges a picture twofold, or as provider_options.upscaleConfig says; the prompt is not used.",
)


def native(model: str, caps: Caps) -> Caps:
    """A native model as it is here: the format can be chosen, requests are smaller, dates are other ones."""
    return changed(
        caps,
        formats=("png", "jpeg"),
        compression=True,
        input_bytes=INPUT_BYTES,
        options=caps.options | {"labels", "personGeneration", "prominentPeople"},
        ends=ENDS.get(model),
        note=NOTES.get(model, caps.note),
    )


def imagen(caps: Caps) -> Caps:
    """An Imagen model as it is here."""
    return changed(caps, params=IMAGEN.params, options=IMAGEN.options, ends=None, note=IMAGEN.note)


MODELS: Mapping[str, Caps] = {
    **{
        model: imagen(caps) if model.startswith("imagen") else native(model, caps)
        for model, caps in gemini.MODELS.items()
    },
    "imagen-3.0-capability-001": CAPABILITY,
    "imagen-4.0-upscale-preview": UPSCALE,
}


def base(site: Mapping[str, str]) -> str:
    location = site.get("location", "global") if "project" in site else "global"
    if location == "global":
        return f"https://{GLOBAL_HOST}/v1"
    if location in {"us", "eu"}:
        return f"https://aiplatform.{location}.rep.googleapis.com/v1"
    return f"https://{location}-aiplatform.googleapis.com/v1"


def caps(model: str) -> Caps | None:
    return MODELS.get(model)


def start(job: Job) -> Call:
    path = model_path(job)
    if job.model.startswith("imagen-3.0-capability"):
        return Call(path=f"{path}:predict", json=edit_body(job))
    if "-upscale-" in job.model:
        return Call(path=f"{path}:predict", json=upscale_body(job))
    return gemini.ask(job, path)


def model_path(job: Job) -> str:
    """Where the model lives; absolute where it must be asked for at another location than the configured one."""
    regional = job.model.startswith(REGIONAL)
    project = job.site.get("project")
    if not project:
        if regional:
            raise Fault("invalid", f"{job.model} is served to a project only: configure `project`.", param="model")
        return f"/publishers/google/models/{job.model}"
    location = job.site.get("location", "global")
    home = ""
    if regional and location == "global":
        location = REGION
        home = "" if "base_url" in job.site else f"https://{REGION_HOST}/v1"
    return f"{home}/projects/{project}/locations/{location}/publishers/google/models/{job.model}"


def edit_body(job: Job) -> dict[str, Any]:
    """Imagen's editing: one picture and its mask, or references of one kind."""
    prompt = prompted(job)
    parameters = gemini.predict_parameters(job)
    if job.steps is not None:
        parameters["editConfig"] = {"baseSteps": job.steps}
    pictures = references(job)
    if not pictures:
        masked = bool(job.mask) or "maskImageConfig" in job.options
        parameters.setdefault("editMode", "EDIT_MODE_INPAINT_INSERTION" if masked else "EDIT_MODE_DEFAULT")
        pictures = [reference("RAW", 1, job.images[0])]
        if masked:
            pictures.append(mask_reference(job, parameters["editMode"]))
    body = {"instances": [{"prompt": prompt, "referenceImages": pictures}], "parameters": parameters}
    return body | chosen(job, ("labels",))


def references(job: Job) -> list[dict[str, Any]]:
    """The pictures as subjects or styles; none where the picture is the one to edit."""
    for kind, name in (("SUBJECT", "subjectImageConfig"), ("STYLE", "styleImageConfig")):
        if name in job.options:
            config = {name: job.options[name]}
            return [reference(kind, number, image) | config for number, image in enumerate(job.images, 1)]
    if len(job.images) > 1:
        raise Fault(
            "invalid",
            f"{job.model} edits one picture. To give several as references, say of what kind they are in "
            "`provider_options`: `subjectImageConfig` or `styleImageConfig`.",
            param="image",
        )
    return []


def reference(kind: str, number: int, image: Media) -> dict[str, Any]:
    """One picture of the request, by the number that the prompt may name."""
    return {"referenceType": f"REFERENCE_TYPE_{kind}", "referenceId": number, "referenceImage": inline(image)}


def mask_reference(job: Job, mode: str) -> dict[str, Any]:
    """The mask, or the order to find one (`maskImageConfig` alone)."""
    config: dict[str, Any] = {}
    if job.mask:
        dilation = 0.03 if mode == "EDIT_MODE_OUTPAINT" else 0.01
        config = {"maskMode": "MASK_MODE_USER_PROVIDED", "dilation": dilation}
    config |= dict(job.options.get("maskImageConfig", {}))
    made: dict[str, Any] = {"referenceType": "REFERENCE_TYPE_MASK", "referenceId": 2}
    if job.mask:
        made["referenceImage"] = inline(job.mask)
    return made | {"maskImageConfig": config}


def upscale_body(job: Job) -> dict[str, Any]:
    """Imagen's upscaling: the picture alone."""
    parameters: dict[str, Any] = {
        "mode": "upscale",
        "upscaleConfig": job.options.get("upscaleConfig", {"upscaleFactor": "x2"}),
        "sampleCount": 1,
    }
    if output := gemini.output_options(job):
        parameters["outputOptions"] = output
    return {"instances": [{"image": inline(job.images[0])}], "parameters": parameters} | chosen(job, ("labels",))


def inline(image: Media) -> dict[str, Any]:
    return {"bytesBase64Encoded": base64(image), "mimeType": image.type}


def check(reply: Reply) -> None:
    fault = fault_in(reply)
    if fault and fault.kind == "missing":
        fault = worded(fault, gemini.retired(reply))
        if location := reply.call.path.partition("/locations/")[2].partition("/")[0]:
            fault = worded(fault, f"It was asked for at the location {location}; not every model is at every one.")
    if fault:
        raise fault
