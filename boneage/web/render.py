"""Render templates as responses."""

import jinja2
from fastapi.responses import HTMLResponse

from boneage.inference.messages import explain_warning, format_age, format_difference, list_reasons

# Upper end of the bone-age scale on the page, in months.
_SCALE_MONTHS = 228.0

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("boneage.web"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"age": format_age, "difference": format_difference, "reasons": list_reasons}
_templates.filters |= {
    "warning": explain_warning,
    "scaled": lambda months: round(100 * min(max(months / _SCALE_MONTHS, 0.0), 1.0), 2),
}


def render(name: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: object) -> HTMLResponse:
    """Render a template as a response."""
    return HTMLResponse(_templates.get_template(name).render(**values), status, headers)
