"""Images in requests to OpenAI's APIs, with refusals in their words."""

from mlxd.api.openai.errors import unsupported, wrong_value
from mlxd.api.wire.images import ImageRefused, image_from_url
from mlxd.messages import Image


def read_image(url: str, field: str) -> Image:
    """The image in a `data:` URL; raises `InvalidField`."""
    try:
        return image_from_url(url)
    except ImageRefused as error:
        refuse = unsupported if error.remote else wrong_value
        raise refuse(field, str(error)) from None
