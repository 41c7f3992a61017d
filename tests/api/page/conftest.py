"""The page in a browser is tested where there is one."""

from tests.api.page.browser import FOUND

collect_ignore = [] if FOUND else ["test_browser.py"]
