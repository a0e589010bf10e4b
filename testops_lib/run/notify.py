"""The stage `notify`: tells people how a run ended."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from urllib.parse import quote

from testops_lib import notify as notifying
from testops_lib import target as targets
from testops_lib.errors import StoreError
from testops_lib.run.analyze import Outcome
from testops_lib.settings import Settings
from testops_lib.store import Store
from testops_lib.text import printable

_LOG = logging.getLogger(__name__)


def notify(
    run: str, settings: Settings, *, outcome: Outcome, target: str = "", environ: Mapping[str, str] = os.environ
) -> str:
    """Tells people how the run ended, also when it ended early; gives the text.

    `target` is whose run it was, for a run that ended before it was registered.
    """
    report = resolved = None
    with Store(settings.need_dsn()) as store:
        try:
            about = store.run(run)
            target, resolved = about.target, about.resolved
            report = store.report(run) if outcome.verdict != "none" else None
        except StoreError as error:
            _LOG.info("%s", error)
    page = f"{settings.ui_url}/dags/testops_run/runs/{quote(run)}" if settings.ui_url else ""
    if report is not None:
        notice = notifying.message(report, page)
    else:
        notice = notifying.unfinished(target or "?", run, page, reasons=outcome.reasons)
    notifying.log(notice)
    urls = [settings.webhook_url]
    if resolved is not None:
        urls.append(targets.expand(resolved.target.notify.webhook, environ, where="notify.webhook"))
    elif target and (settings.targets_dir / f"{target}.yaml").is_file():
        webhook = targets.find(settings.targets_dir, target).notify.webhook
        urls.append(targets.expand(webhook, environ, where="notify.webhook"))
    for url in filter(None, urls):
        sent = notifying.webhook(url, notice, secret=settings.webhook_secret, next_secret=settings.webhook_secret_next)
        _LOG.info("webhook: %s", "sent" if sent.sent else f"not sent: {printable(sent.error)}")
    return notice.text
