"""What can go wrong, as one tree. A message says where, what, and what to do next."""

from __future__ import annotations

from testops_lib.text import printable


class TestOpsError(Exception):
    """Base of every error this project raises on purpose.

    `str(error)` is one or a few lines fit for a terminal: where, what, what next. Nothing in it acts on the terminal,
    though documents and answers may have written parts of it.
    """

    __test__ = False

    def __init__(self, what: str, *, where: str = "", next_step: str = "") -> None:
        what, where, next_step = printable(what), printable(where), printable(next_step)
        self.what, self.where, self.next_step = what, where, next_step
        head = f"{where}: {what}" if where else what
        super().__init__(f"{head}\n  -> {next_step}" if next_step else head)


class SpecError(TestOpsError):
    """The OpenAPI document cannot be read, breaks a limit, or contradicts its own format."""


class DocumentRefusedError(SpecError):
    """The server of the OpenAPI document wants credentials."""


class SpecAwayError(SpecError):
    """The document's server gives no answer, or says that it is busy: it may be back in a moment."""


class TargetError(TestOpsError):
    """A target file, an authentication file or an option describes no usable target."""


class AddressError(TestOpsError):
    """A request was refused because the target's policy does not allow its address."""


class SettingsError(TestOpsError):
    """An environment variable or a command-line option has an unusable value."""


class CaseError(TestOpsError):
    """A case document breaks the case schema or contradicts the spec."""


class GenerateError(TestOpsError):
    """A generator could not do its work (no key, provider away, budget spent)."""


class BusError(TestOpsError):
    """Kafka refused, lost or expired something; worth a retry unless it is an `ExpiredBatchError`."""


class ExpiredBatchError(BusError):
    """Records of a batch are gone from the topic (retention); the run must be published again."""


class StoreError(TestOpsError):
    """PostgreSQL is away, or its schema is not the one this version needs."""


class UnknownRunError(StoreError):
    """There is no such run: its order was refused, or its id is another one."""


class StackError(TestOpsError):
    """A local server (PostgreSQL, Kafka, Airflow, a sample target) could not be set up or started."""


class TriggerError(TestOpsError):
    """Airflow's REST API refused, or the DAG run could not be followed."""
