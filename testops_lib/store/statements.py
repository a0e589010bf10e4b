"""Every SQL statement of the store, named; each with what it returns.

PostgreSQL has no statistics about a run that has just begun: it expects one row of it, and would join two large tables
of the run by a nested loop, a hundred thousand rows times a hundred thousand. So differences between a run's rows are
set operations (EXCEPT), and last attempts come from one pass (DISTINCT ON): neither can be planned as a nested loop.
"""

from __future__ import annotations

SCHEMA = """
SELECT version_num, coalesce(to_jsonb(alembic_version) ->> 'oldest_code', version_num) FROM testops.alembic_version
"""
"""The schema's version, and the oldest code that works with it; the column is not there before the first upgrade by
code that writes it.
"""
ADD_OLDEST_CODE = "ALTER TABLE testops.alembic_version ADD COLUMN IF NOT EXISTS oldest_code text"
SET_OLDEST_CODE = "UPDATE testops.alembic_version SET oldest_code = %s"

PUT_SPEC = "INSERT INTO testops.specs (hash, body) VALUES (%s, %s) ON CONFLICT (hash) DO NOTHING"
GET_SPEC = "SELECT body FROM testops.specs WHERE hash = %s"

OPEN_RUN = """
INSERT INTO testops.runs (run, target, title, base_url, spec_hash, settled, suite) VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (run) DO UPDATE SET
    target = excluded.target, title = excluded.title, base_url = excluded.base_url, spec_hash = excluded.spec_hash,
    settled = excluded.settled, suite = excluded.suite, state = 'open', finished = NULL
"""
"""Opens a run, or opens it again; what was published and stored of it stays."""

GET_RUN = """
SELECT run, target, title, base_url, spec_hash, state, opened, finished, settled, plan_batch, batches, positions,
    passed, suite, results_topic
FROM testops.runs WHERE run = %s
"""
LOCK_RUN = "SELECT positions, results_topic FROM testops.runs WHERE run = %s FOR UPDATE"

CASES_INCOMING = """
CREATE TEMPORARY TABLE IF NOT EXISTS incoming_cases (
    id text COLLATE "C", name text, operation text, intent text, source text, document text
) ON COMMIT DELETE ROWS
"""
COPY_CASES = "COPY incoming_cases FROM STDIN (FORMAT BINARY)"
CLEAR_CASES = "TRUNCATE incoming_cases"
"""For further cases within the same transaction."""
MERGE_CASES = """
INSERT INTO testops.cases AS stored
SELECT id, name, operation, intent, source, document FROM incoming_cases ORDER BY id
ON CONFLICT (id) DO UPDATE SET name = excluded.name, source = excluded.source, document = excluded.document
WHERE stored.document <> excluded.document
"""
"""Adds cases; a stored one takes over the name and origin. Sorted, so that two tasks cannot deadlock."""

PUT_GROUP = """
INSERT INTO testops.run_groups (run, name, case_ids, generation) VALUES (%s, %s, %s, %s)
ON CONFLICT (run, name) DO UPDATE SET case_ids = excluded.case_ids, generation = excluded.generation
"""
LOAD_CASES = """
SELECT c.document
FROM (
    SELECT DISTINCT ON (id) id, name, position
    FROM testops.run_groups, unnest(case_ids) WITH ORDINALITY AS listed (id, position)
    WHERE run = %(run)s AND name >= %(first)s AND (%(end)s = '' OR name < %(end)s) ORDER BY id, name, position
) AS first JOIN testops.cases c USING (id)
ORDER BY first.name, first.position
"""
"""Documents of a run's cases by group and position; a case listed twice stands where it comes first."""
GENERATIONS = "SELECT generation FROM testops.run_groups WHERE run = %s ORDER BY name"
GENERATIONS_SINCE = """
SELECT g.generation FROM testops.run_groups g JOIN testops.runs r USING (run)
WHERE r.target = %s AND r.opened >= %s AND g.run <> %s ORDER BY g.run, g.name
"""

GET_CASES = "SELECT document FROM testops.cases WHERE id = ANY(%s)"
KEEP_CASES = """
UPDATE testops.run_groups SET case_ids = ARRAY(
    SELECT id FROM unnest(case_ids) WITH ORDINALITY AS listed (id, position) WHERE id = ANY(%s) ORDER BY position
) WHERE run = %s
"""
"""Takes all other cases out of the run's groups."""

LOCK_SUITE = "SELECT pg_advisory_xact_lock(hashtextextended('testops suite ' || %s, 0))"
"""One writer of a suite at a time."""
MEMBERS = """
SELECT id, suite, operation, source, slot, position, generated, current, offered, edited, status, who, why, changed
FROM testops.suite_members
WHERE suite = %(suite)s AND (%(source)s::text IS NULL OR source = %(source)s)
  AND (%(operations)s::text[] IS NULL OR operation = ANY(%(operations)s))
ORDER BY operation, source, position, id
"""
NAMED_MEMBERS = """
SELECT id, suite, operation, source, slot, position, generated, current, offered, edited, status, who, why, changed
FROM testops.suite_members WHERE starts_with(id, %(start)s) OR starts_with(current, %(start)s) ORDER BY id LIMIT 20
"""
"""Members whose id, or whose case's id, begins with `start`."""
SUITES = "SELECT DISTINCT suite FROM testops.suite_members ORDER BY suite"
MEMBERS_INCOMING = """
CREATE TEMPORARY TABLE IF NOT EXISTS incoming_members (
    id text COLLATE "C", suite text COLLATE "C", operation text, source text, slot text, position integer,
    generated text COLLATE "C", current text COLLATE "C", offered text, edited boolean, status text COLLATE "C",
    who text, why text, changed timestamptz
) ON COMMIT DELETE ROWS
"""
COPY_MEMBERS = "COPY incoming_members FROM STDIN (FORMAT BINARY)"
MERGE_MEMBERS = """
INSERT INTO testops.suite_members SELECT * FROM incoming_members ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    position = excluded.position, generated = excluded.generated, current = excluded.current,
    offered = excluded.offered, edited = excluded.edited, status = excluded.status, who = excluded.who,
    why = excluded.why, changed = excluded.changed
"""
CLEAR_MEMBERS = "TRUNCATE incoming_members"
COPY_CHANGES = """
COPY testops.suite_changes (member, suite, at, who, what, why, before, after) FROM STDIN (FORMAT BINARY)
"""
CHANGES = """
SELECT member, suite, at, who, what, why, before, after FROM testops.suite_changes WHERE member = %s ORDER BY seq
"""
RETIRE = """
WITH gone AS (
    UPDATE testops.suite_members m SET status = 'retired', offered = '', who = '', why = %(why)s, changed = now()
    FROM (SELECT id, status FROM testops.suite_members WHERE suite = %(suite)s) AS before
    WHERE m.id = before.id AND m.status NOT IN ('retired', 'rejected') AND m.operation <> ALL (%(kept)s)
    RETURNING m.id, m.suite, before.status
), recorded AS (
    INSERT INTO testops.suite_changes (member, suite, what, why)
    SELECT id, suite, status || ' -> retired', %(why)s FROM gone
)
SELECT count(*) FROM gone
"""
"""Retires the members of all other operations; returns their number."""
REVIVE = """
WITH back AS (
    UPDATE testops.suite_members m SET status = before.status, who = '', why = %(back)s, changed = now()
    FROM (
        SELECT DISTINCT ON (member) member, split_part(what, ' -> ', 1) AS status FROM testops.suite_changes
        WHERE suite = %(suite)s AND why = %(why)s ORDER BY member, seq DESC
    ) AS before
    WHERE m.id = before.member AND m.status = 'retired' AND m.why = %(why)s AND m.operation = ANY (%(kept)s)
    RETURNING m.id, m.suite, m.status
)
INSERT INTO testops.suite_changes (member, suite, what, why)
SELECT id, suite, 'retired -> ' || status, %(back)s FROM back
"""
"""Revives the members of these operations that RETIRE retired."""
MADE = "SELECT operation, document FROM testops.suite_made WHERE suite = %s AND source = %s AND operation = ANY(%s)"
PUT_MADE = """
INSERT INTO testops.suite_made (id, suite, operation, source, document) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET document = excluded.document
"""
RUN_MEMBERS = """
SELECT id, suite, operation, source, slot, position, generated, current, offered, edited, status, who, why, changed
FROM testops.suite_members
WHERE suite = (SELECT suite FROM testops.runs WHERE run = %(run)s)
  AND current IN (SELECT unnest(case_ids) FROM testops.run_groups WHERE run = %(run)s)
ORDER BY operation, source, position, id
"""
"""Members whose cases the run takes."""
STABLE = """
SELECT case_id FROM (
    SELECT r.case_id, row_number() OVER (PARTITION BY r.case_id ORDER BY runs.seq DESC) AS nth,
        bool_and(r.verdict = 'passed') AS passed
    FROM testops.results r
    JOIN (
        SELECT run, seq FROM testops.runs WHERE suite = %(suite)s ORDER BY seq DESC LIMIT %(among)s
    ) AS runs USING (run)
    JOIN testops.suite_members m ON m.suite = %(suite)s AND m.current = r.case_id AND m.status = 'active'
    JOIN testops.cases c ON c.id = r.case_id AND c.document LIKE '%%"basis":"guess"%%'
    GROUP BY r.case_id, runs.seq
) AS judged
WHERE nth <= %(runs)s GROUP BY case_id HAVING count(*) = %(runs)s AND bool_and(passed)
"""
"""Ids of the suite's active cases with guesses that passed in each attempt of each of their last runs."""
SUITE_SPEC = "SELECT spec_hash FROM testops.runs WHERE suite = %s AND spec_hash <> '' ORDER BY seq DESC LIMIT 1"
"""Hash of the document that the suite's last run read."""
HELD = """
SELECT current FROM testops.suite_members WHERE suite = (SELECT suite FROM testops.runs WHERE run = %s)
GROUP BY current HAVING bool_and(status IN ('draft', 'rejected', 'retired'))
"""
"""Ids of cases whose members in the run's suite all keep them from running."""
QUARANTINED = """
SELECT current FROM testops.suite_members WHERE suite = (SELECT suite FROM testops.runs WHERE run = %s)
GROUP BY current HAVING bool_or(status = 'quarantined') AND NOT bool_or(status = 'active')
"""
"""Ids of cases of the run's suite that run without counting for the gate."""

BEGIN_BATCH = "INSERT INTO testops.begun_batches (run, batch, attempt) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
DELETE_PUBLISHED = "DELETE FROM testops.run_cases WHERE run = %s"
PUBLISH_FURTHER = "INSERT INTO testops.run_cases (case_id, run) SELECT unnest(%s::text[]), %s ON CONFLICT DO NOTHING"
PUBLISHED_INCOMING = """
CREATE TEMPORARY TABLE IF NOT EXISTS incoming_published (case_id text COLLATE "C") ON COMMIT DELETE ROWS
"""
COPY_PUBLISHED = "COPY incoming_published FROM STDIN (FORMAT BINARY)"
PUBLISH = "INSERT INTO testops.run_cases (run, case_id) SELECT DISTINCT %s, case_id FROM incoming_published"
UNPUBLISHED = """
SELECT case_id FROM testops.results WHERE run = %(run)s
EXCEPT SELECT case_id FROM testops.run_cases WHERE run = %(run)s
"""
"""Cases that have results and were dropped by the latest publication of the run."""
DELETE_RESULTS = "DELETE FROM testops.results WHERE run = %s AND case_id = ANY(%s)"
DELETE_UNPUBLISHED_REPETITIONS = """
DELETE FROM testops.repetitions r
WHERE run = %s AND NOT EXISTS (SELECT FROM testops.run_cases c WHERE c.run = r.run AND c.case_id = r.case_id)
"""
PUT_REPETITION = """
INSERT INTO testops.repetitions AS stored (run, case_id, repeat, verdict, document)
SELECT run, %(case)s, %(repeat)s, %(verdict)s, %(document)s FROM testops.runs WHERE run = %(run)s
ON CONFLICT (run, case_id, repeat) DO UPDATE SET verdict = excluded.verdict, document = excluded.document
WHERE stored.verdict IN ('errored', 'skipped') AND stored.document <> excluded.document
"""
"""Stores a repetition if its run is stored; the first passed or failed one stays."""
REPETITIONS = "SELECT document FROM testops.repetitions WHERE run = %s ORDER BY case_id, repeat"
MARK_FURTHER = "UPDATE testops.runs SET batches = batches || %s::text[] WHERE run = %s"
MARK_PUBLISHED = """
UPDATE testops.runs SET
    state = 'published', published_at = now(), positions = %s, results_topic = %s, plan_batch = %s, batches = %s
WHERE run = %s
"""
COUNT_PUBLISHED = "SELECT count(*) FROM testops.run_cases WHERE run = %s"
OPEN_POSITIONS = """
SELECT positions, results_topic FROM testops.runs
WHERE positions IS NOT NULL AND state <> 'finished' AND published_at > now() - interval '1 day'
"""
"""Positions of the runs whose results may still come."""

RESULTS_INCOMING = """
CREATE TEMPORARY TABLE IF NOT EXISTS incoming_results (
    run text COLLATE "C", case_id text COLLATE "C", attempt integer, verdict text COLLATE "C", reason text,
    operation text, requests integer, elapsed_ms double precision, started timestamptz, document text
) ON COMMIT DELETE ROWS
"""
COPY_RESULTS = "COPY incoming_results FROM STDIN (FORMAT BINARY)"
LOCK_RESULTS = "SELECT pg_advisory_xact_lock(8271105)"
"""One merge at a time: `seq` grows in the order of commits, and two collectors cannot deadlock."""
MERGE_RESULTS = """
WITH accepted AS (
    SELECT i.* FROM incoming_results i JOIN testops.runs USING (run)
    WHERE runs.published_at IS NULL
       OR EXISTS (SELECT FROM testops.run_cases c WHERE c.run = i.run AND c.case_id = i.case_id)
), merged AS (
    INSERT INTO testops.results AS stored (
        run, case_id, attempt, verdict, reason, operation, requests, elapsed_ms, started, document
    )
    SELECT run, case_id, attempt, verdict, reason, operation, requests, elapsed_ms, started, document FROM accepted
    ON CONFLICT (run, case_id, attempt) DO UPDATE SET
        verdict = excluded.verdict, reason = excluded.reason, operation = excluded.operation,
        requests = excluded.requests, elapsed_ms = excluded.elapsed_ms, started = excluded.started,
        document = excluded.document, seq = nextval('testops.results_seq')
    WHERE stored.verdict IN ('errored', 'skipped') AND (
        excluded.verdict IN ('passed', 'failed')
        OR (stored.reason = 'no_result' AND excluded.reason <> 'no_result')
        OR excluded.started > coalesce(stored.started, '-infinity')
    )
    RETURNING run, verdict
)
SELECT 'merged', run, verdict, count(*) FROM merged GROUP BY run, verdict
UNION ALL
SELECT 'accepted', '', '', count(*) FROM accepted
"""
"""Stores results by `rows.supersedes`; returns the number stored by run and verdict, and that of accepted results."""
NOTIFY = "SELECT pg_notify('testops_results', %s)"

MISSING = """
SELECT case_id FROM testops.run_cases WHERE run = %(run)s
EXCEPT SELECT case_id FROM testops.results WHERE run = %(run)s
ORDER BY case_id
"""
"""Published cases without a result."""
UNPASSED = """
SELECT case_id FROM (
    SELECT DISTINCT ON (case_id) case_id, verdict FROM testops.results WHERE run = %(run)s AND attempt < %(attempt)s
    ORDER BY case_id, attempt DESC
) AS before WHERE verdict <> 'passed' ORDER BY case_id
"""
"""Cases whose last attempt before this one did not pass."""
MISSING_AGAIN = """
SELECT case_id FROM (
    SELECT DISTINCT ON (case_id) case_id, verdict FROM testops.results WHERE run = %(run)s AND attempt < %(attempt)s
    ORDER BY case_id, attempt DESC
) AS before WHERE verdict <> 'passed'
EXCEPT SELECT case_id FROM testops.results WHERE run = %(run)s AND attempt = %(attempt)s
ORDER BY case_id
"""
"""The UNPASSED cases without a result in this attempt."""
LAST_ATTEMPT = "SELECT coalesce(max(attempt), 0) FROM testops.results WHERE run = %s"
COUNT_NO_RESULT = """
SELECT count(*) FROM (
    SELECT DISTINCT ON (case_id) verdict, reason FROM testops.results WHERE run = %s
    ORDER BY case_id DESC, attempt DESC
) AS last WHERE verdict = 'errored' AND reason = 'no_result'
"""
DESCRIBE_CASES = "SELECT id, name, operation, intent, source FROM testops.cases WHERE id = ANY(%s)"

COUNT_VERDICTS = """
SELECT verdict, count(*) FROM (
    SELECT DISTINCT ON (case_id) verdict FROM testops.results WHERE run = %s ORDER BY case_id DESC, attempt DESC
) AS last GROUP BY verdict
"""
"""Cases by the verdict of their last attempt."""
NEW_FAILURES = """
SELECT seq, document FROM testops.results
WHERE run = %s AND verdict = 'failed' AND seq > %s ORDER BY seq LIMIT %s
"""
RESULTS = """
SELECT document FROM (
    SELECT DISTINCT ON (case_id) case_id, document FROM testops.results WHERE run = %s ORDER BY case_id, attempt DESC
) AS last ORDER BY case_id
"""
"""Documents of each case's last attempt."""
ATTEMPTS = "SELECT document FROM testops.results WHERE run = %s ORDER BY case_id, attempt"

PREVIOUS_RUN = """
SELECT run FROM testops.runs
WHERE target = %s AND state = 'finished' AND run <> %s
  AND seq < coalesce((SELECT seq FROM testops.runs WHERE run = %s), 9223372036854775807)
ORDER BY seq DESC LIMIT 1
"""
RESPONSE_TIMES = """
SELECT report FROM testops.runs
WHERE target = %(target)s AND state = 'finished' AND report IS NOT NULL
  AND (base_url, true) = (SELECT base_url, seq > runs.seq FROM testops.runs AS this WHERE this.run = %(run)s)
ORDER BY seq DESC LIMIT %(runs)s
"""
LATEST_RUN = """
SELECT run FROM testops.runs WHERE %(target)s::text IS NULL OR target = %(target)s ORDER BY seq DESC LIMIT 1
"""

KNOWN_FINGERPRINTS = "SELECT fingerprint, first_seen_run FROM testops.findings WHERE target = %s"
FINISH_RUN = """
UPDATE testops.runs SET state = 'finished', finished = now(), passed = %s, report = %s WHERE run = %s
"""
GET_REPORT = "SELECT report FROM testops.runs WHERE run = %s"
FORGET_FINDINGS = """
DELETE FROM testops.findings
WHERE target = %s AND first_seen_run = %s AND last_seen_run = %s AND NOT fingerprint = ANY(%s)
"""
"""Deletes the findings that an earlier analysis of the same run saw first and this one does not see."""
PUT_FINDING = """
INSERT INTO testops.findings AS stored (
    target, fingerprint, operation, check_name, message, state, first_seen_run, last_seen_run
) VALUES (%(target)s, %(fingerprint)s, %(operation)s, %(check)s, %(message)s, %(state)s, %(run)s, %(run)s)
ON CONFLICT (target, fingerprint) DO UPDATE SET
    message = excluded.message,
    state = CASE WHEN stored.state = 'muted' THEN 'muted' ELSE excluded.state END,
    last_seen_run = CASE WHEN excluded.state = 'fixed' THEN stored.last_seen_run ELSE excluded.last_seen_run END
"""
