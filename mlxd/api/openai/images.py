"""Images in requests to OpenAI's APIs, with refusals in their words."""

from mlxd.api.openai.errors import unsupported, wrong_value
from mlxd.api.wire.images import ImageRefused, image_from_url
from mlxd.messages import Image


def read_image(url: str, part: str, field: str) -> Image:
    """The image of the part at `part`, whose `field` is a `data:` URL; raises `InvalidField`."""
    try:
        return image_from_url(url, part)
    except ImageRefused as error:
        refuse = unsupported if error.remote else wrong_value
        raise refuse(f"{part}.{field}", str(error)) from None
