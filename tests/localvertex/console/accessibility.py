"""Looks at an open page for what keeps people out of it, by the rules of WCAG 2 that a program can check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_FINDINGS = Path(__file__).with_suffix(".js").read_text()

_FOCUSED = """
() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const marked = element.querySelector(":scope > rect");
  const label = element.id ? document.querySelector(`label[for="${CSS.escape(element.id)}"]`) : null;
  const shown = parseFloat(style.outlineWidth) > 0 && style.outlineStyle !== "none"
    || marked && parseFloat(getComputedStyle(marked).strokeWidth) > 3
    || label && parseFloat(getComputedStyle(label).outlineWidth) > 0
    || element.matches("iframe, input[type=file]");
  return [element === document.body, element.className === "skip", Boolean(shown),
    element.outerHTML.slice(0, 120)];
}
"""


_TO_THE_TOP = """
() => {
  document.body.tabIndex = -1;
  document.body.focus();
  document.body.removeAttribute("tabindex");
}
"""


def check(page: Any, keys: int = 12) -> None:
    """Fail with all that is found on a page of Playwright's.

    Args:
        keys: how often Tab is pressed to see that focus begins at the top, goes on, and can be seen.
    """
    found = list(page.evaluate(_FINDINGS))
    page.evaluate(_TO_THE_TOP)
    for number in range(keys):
        page.keyboard.press("Tab")
        away, skip, shown, what = page.evaluate(_FOCUSED)
        if number == 0 and not skip and not away:
            found.append(f"Tab first leads to {what}, not past the navigation")
        if away:
            break
        if not shown:
            found.append(f"focus cannot be seen on {what}")
    assert not found, "\n".join(found)
