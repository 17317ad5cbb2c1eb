"""Images and files in a message: checked before they are sent, and named as providers want it.

They are langchain's standard content blocks, ``{"type": "image" or "file", "base64" or "url",
"mime_type"}``; ``image_url`` blocks are taken as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, ToolMessage

from corral.errors import ModelError
from corral.runtime.models.hosted.dialects.call import Api, Target
from corral.runtime.models.hosted.known_models import takes_images
from corral.runtime.models.media import as_text, images_in, results_as_text

_MIB = 1024 * 1024
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_LARGEST_IMAGE: Mapping[Api, int] = {"messages": 5 * _MIB, "responses": 50 * _MIB}
"""Bytes of one image. Anthropic's limit is for each; OpenAI's for all of a request together."""

_LARGEST = 32 * _MIB
"""Bytes of any other image and of a file: what the providers take in a whole request."""

_MOST_OF_RESULTS = 20
_LARGEST_OF_RESULTS = 16 * _MIB
"""Images that the results of tools may have together, and what they take as base64: beyond that a
provider takes only small ones, or the whole request not any more."""

_ABILITIES = {"image": "image_inputs", "file": "pdf_inputs"}
_DATA_URL = re.compile(r"data:(?P<type>[\w.+/-]{1,100});base64,")


def shows_results(api: Api, model: str) -> bool:
    """Whether the results of tools may have images. In Chat Completions they are text."""
    return api in ("responses", "messages") and takes_images(model)


def with_results(messages: Sequence[BaseMessage], target: Target) -> list[BaseMessage]:
    """The history with images in the results of tools where they are taken, the newest first.

    What a langchain model of the user's takes, only that model knows: it is sent all.
    """
    if target.api == "foreign":
        return list(messages)
    if not shows_results(target.api, target.model):
        return results_as_text(messages)
    count = size = 0
    shown: list[BaseMessage] = []
    for message in reversed(messages):
        if isinstance(message, ToolMessage) and (images := images_in(message)):
            count += len(images)
            size += sum(len(str(image.get("base64", ""))) for image in images)
            fits = count <= _MOST_OF_RESULTS and size <= _LARGEST_OF_RESULTS
            shown.append(message if fits else as_text(message))
        else:
            shown.append(message)
    return shown[::-1]


def attached(message: BaseMessage, target: Target) -> BaseMessage:
    """The message with its images and files as the provider takes them.

    Raises ``ModelError`` for what the model is known not to take, and for what is too large.
    """
    if isinstance(message.content, str) or target.api == "foreign":
        return message
    content = [_block(block, target) for block in message.content]
    return message.model_copy(update={"content": content})


def _block(block: Any, target: Target) -> Any:
    if not isinstance(block, Mapping):
        return block
    kind = str(block.get("type"))
    if kind == "text-plain" and target.api != "messages":
        return {"type": "text", "text": str(block.get("text", ""))}
    if kind in ("audio", "video"):
        raise ModelError(f"{_who(target)} is sent no {kind}.", hint="Send its text instead.")
    if kind == "image_url":
        block = _plain_image(block)
        kind = "image"
    if kind not in _ABILITIES:
        return block
    if target.lacks(_ABILITIES[kind]):
        raise ModelError(
            f"{_who(target)} takes no {kind}s.",
            hint="Use a model that does, or send the content as text.",
        )
    return _image(block, target) if kind == "image" else _file(block, target)


def _image(block: Mapping[str, Any], target: Target) -> Mapping[str, Any]:
    if "base64" in block:
        if block.get("mime_type") not in _IMAGES:
            raise ModelError(
                f"An image is {block.get('mime_type') or 'of no stated type'}, "
                f"and {_who(target)} takes {', '.join(_IMAGES)}.",
                hint="Convert the image, and say its mime_type.",
            )
        _check_size("image", block, _LARGEST_IMAGE.get(target.api, _LARGEST))
    return block


def _file(block: Mapping[str, Any], target: Target) -> Mapping[str, Any]:
    if "base64" not in block:
        return block
    _check_size("file", block, _LARGEST)
    if target.api == "messages":
        return block
    # OpenAI wants every file to have a name.
    return {"filename": "file.pdf", "mime_type": "application/pdf", **block}


def _plain_image(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """OpenAI's block for an image as langchain's standard one."""
    given = block.get("image_url")
    url = str(given.get("url", "") if isinstance(given, Mapping) else given)
    if found := _DATA_URL.match(url):
        return {"type": "image", "base64": url[found.end() :], "mime_type": found["type"]}
    return {"type": "image", "url": url}


def _check_size(what: str, block: Mapping[str, Any], largest: int) -> None:
    size = len(str(block["base64"])) * 3 // 4
    if size > largest:
        raise ModelError(
            f"The {what} has {size / _MIB:.1f} MiB, and the provider takes {largest // _MIB} MiB.",
            hint=f"Make the {what} smaller, or send a part of it.",
        )


def _who(target: Target) -> str:
    return target.model or "the model"
