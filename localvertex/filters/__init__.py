"""Lists of any kind of resource: filtered, ordered, a page at a time.

What happens to a request, module by module: `language` reads its filter, whose `fields` become `conditions` by
`comparisons`; `ordering` reads its order; `scan` finds in the store what passes, in that order; `pages` cuts that up.
"""

from localvertex.filters.language import Relations, parse_filter, predicate
from localvertex.filters.pages import MAX_PAGE, PAGE_BYTES, listing, matching

__all__ = ["MAX_PAGE", "PAGE_BYTES", "Relations", "listing", "matching", "parse_filter", "predicate"]
