"""The app answers its visitors: a crawler asks the machine for the pages that a visitor finds, and each is judged."""

import json
from pathlib import Path

import pytest

from bake import comparison
from bake.recipe import Page

#: Follows links as a visitor does; it runs on the machine, where the network is closed and certificates are nobody's.
CRAWLER = Path(__file__).parents[2] / "packer/crawl.py"
#: Seconds for each crawl, and the pages that twenty visitors ask for at once.
SECONDS, BUSY_PAGES = 30, 6


@pytest.fixture(scope="module")
def crawl(host):
    """Ask the machine as visitors of a name do; it runs as a user that owns nothing."""

    def record(scheme, name, paths=None, seeds=("/",), visitors=1):
        argument = {
            "url": f"{scheme}://{name}", "host": name, "connect": ["127.0.0.1", {"http": 80, "https": 443}[scheme]],
            "seeds": list(seeds), "paths": paths, "visitors": visitors, "seconds": SECONDS,
        }  # fmt: skip
        nobody = "setpriv --reuid=nobody --regid=nogroup --clear-groups"
        done = host.run(f"{nobody} python3 -c %s %s", CRAWLER.read_text(), json.dumps(argument))
        assert done.rc == 0, done.stderr
        return comparison.Record.from_json(done.stdout)

    return record


def test_each_page_that_a_visitor_finds_answers(host, recipe, crawl, record_property):
    names = [name.replace("*", "www") for name in host.run("cat /run/app/names").stdout.split()] or ["localhost"]
    health = recipe["check"].get("health")
    pages = [Page.model_validate(page) for page in recipe["check"].get("pages", ())]
    seeds = list(dict.fromkeys(["/", *([health] if health else []), *(page.path for page in pages)]))
    found = crawl("https", names[0], None if recipe["check"].get("crawl", True) else seeds, seeds)
    paths = list(dict.fromkeys([*seeds, *(answer.path for answer in found.answers if answer.method == "GET")]))
    records = [found, crawl("http", names[0], paths)]
    # Every other name has the same app; its front page tells whether the app knows the name.
    records += [crawl(scheme, name, seeds) for name in names[1:] for scheme in ("http", "https")]
    records.append(crawl("https", names[0], paths[:BUSY_PAGES], visitors=20))
    differences = comparison.compare(None, records, pages, health)
    notes = sum(difference.verdict is comparison.Verdict.NOTE for difference, _ in comparison.rows(differences))
    record_property("app", f"{len(paths)} addresses answer, {notes} notes; not compared with the author's server")
    faults = [difference for difference in differences if difference.verdict is comparison.Verdict.FAULT]
    assert not faults, comparison.table(differences)
