"""The app answers its visitors as it does its author: a crawler asks the machine for the pages that a visitor finds."""

import json

from bake import comparison, pages


def test_each_page_answers_as_it_does_with_the_author_s_server(host, recipe, record_property):
    program = pages.crawler()

    def ask(argument):
        # As a user that owns nothing; on the machine, where the network is closed and certificates are nobody's.
        nobody = "setpriv --reuid=nobody --regid=nogroup --clear-groups"
        done = host.run(f"{nobody} python3 -c %s %s", program, json.dumps(argument))
        assert done.rc == 0, done.stderr
        return done.stdout

    record = host.file(pages.AUTHOR)
    release = host.run("basename $(readlink -f /srv/app/current)").stdout.strip()
    author = pages.Author.read(record.content_string if record.exists else "", release)
    if recipe["check"].get("author") == "off":
        author = pages.Author(None, "check.author is off")
    site = pages.Site.of(host.run("cat /run/app/names").stdout, recipe["check"])
    judged = pages.judge(ask, site, author, lambda: host.run("journalctl -b -o cat -n 2000 -u app").stdout)
    record_property("app", judged.summary)
    record_property("pages", comparison.table(judged.differences))
    assert not judged.faults, comparison.table(judged.differences)
