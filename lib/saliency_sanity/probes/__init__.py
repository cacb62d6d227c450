"""Single questions to a method: does it sum up, does it follow the input, what does it leave."""

from saliency_sanity._extras import need

need("a probe", "subjects", "timm")
