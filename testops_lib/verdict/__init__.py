"""What an answer means: answer -> failures -> findings -> gate. Pure: no clock, no network, no database.

One answer. `check` judges it: `statuses` (what the status alone decides), then `conformance` (against what is
`documented`), `expectations` (what the case asks for) and `oracles` (what no document promises). `error_reason` reads
why a server failed, `body` and `json_values` read bodies, `volatile` says what may differ between two answers.

One run. `analyze` makes the report: `attempts` settles cases, `tally` counts in one pass, `coverage`, `transfers` and
`costs` say what was reached, sent and paid, `global_causes` and `folding` move what one cause outside of the operations
explains, `findings` makes findings of failures with one `fingerprint`, `repetition` and `proof` say whether they came
back. `gate` decides, with `reasons`.

Over runs. `lifecycle` says whether a finding is new, known, muted or fixed, `response_times` which operations became
slower, `differential` what two runs answered differently.
"""
