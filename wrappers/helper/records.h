/* The one reader of policy and plan (fuzzed): text in, typed records out, or one problem. */
#pragma once

#include "common.h"

struct record {
    unsigned key; /* POLICY_... or PLAN_... */
    const char *field[FIELDS_MAX];
    uint64_t number[FIELDS_MAX]; /* value of a UINT, index of a WORD */
};

struct records {
    size_t count;
    struct record *list; /* sorted by nothing: in the order of the file */
};

enum records_kind { RECORDS_POLICY, RECORDS_PLAN };

/* Reads SIZE bytes at TEXT, which is overwritten and must stay; TEXT[SIZE] must be writable.
 * Returns NULL, or what is wrong, with the line's number in *LINE (0: the file as a whole). */
const char *records_read(struct records *records, enum records_kind kind, char *text, size_t size,
                         size_t *line);

/* The result of records_read when the format version is another one. */
extern const char records_other_version[];

/* Returns the next record with KEY after PREVIOUS (NULL: the first), or NULL. */
const struct record *records_next(const struct records *records, unsigned key,
                                  const struct record *previous);
