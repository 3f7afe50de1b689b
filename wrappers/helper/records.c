/* MUST: accept exactly what condor_isolation/records.py writes; stay within TEXT[0..SIZE].
 * MUST NOT: call anything but memory and string functions: this is what the fuzzer runs.
 */
#include "records.h"

#include <stdio.h>

#define DECLARE_WORDS(name, ...) static const char *const words_##name[] = { __VA_ARGS__ };
#define DECLARE_LIST(name, words) DECLARE_WORDS(name, words)
WORD_LISTS(DECLARE_LIST)

struct rule {
    const char *key;
    const char *types;
    const char *const *words[2];
    size_t least, most;
};

static const struct rule policy_rules[] = RULES_POLICY;
static const struct rule plan_rules[] = RULES_PLAN;

static const struct kind {
    const char *name;
    const struct rule *rules;
    size_t count;
} kinds[] = {
    [RECORDS_POLICY] = { "policy", policy_rules, LENGTH(policy_rules) },
    [RECORDS_PLAN] = { "plan", plan_rules, LENGTH(plan_rules) },
};
#define KEYS_MAX (LENGTH(policy_rules) + LENGTH(plan_rules))

const char records_other_version[] = "is of another format version";

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_alnum(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Undoes quote() of records.py in place. */
static bool unquote(char *field)
{
    if (strcmp(field, "%") == 0) {
        *field = '\0';
        return true;
    }
    char *out = field;
    for (const char *in = field; *in != '\0'; in++) {
        char c = *in;
        if (c <= 0x20 || c > 0x7e)
            return false;
        if (c == '%') {
            int high = hex_digit(in[1]);
            int low = high < 0 ? -1 : hex_digit(in[2]);
            if (low < 0 || (high == 0 && low == 0))
                return false;
            c = (char)(high * 16 + low);
            in += 2;
        }
        *out++ = c;
    }
    *out = '\0';
    return out > field;
}

static bool is_path(const char *path)
{
    if (strcmp(path, "/") == 0)
        return true;
    while (*path == '/') {
        const char *part = ++path;
        while (*path != '/' && *path != '\0')
            path++;
        size_t length = (size_t)(path - part);
        if (length == 0 || (length == 1 && part[0] == '.') ||
            (length == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        if (*path == '\0')
            return true;
    }
    return false;
}

static bool is_name(const char *name)
{
    if (!is_alnum(*name) && *name != '_')
        return false;
    size_t length = 0;
    for (; name[length] != '\0'; length++)
        if (!is_alnum(name[length]) && strchr("_.-", name[length]) == NULL)
            return false;
    return length <= NAME_BYTES_MAX;
}

static bool is_text(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text < 0x20 || *text > 0x7e)
            return false;
    return true;
}

static bool read_number(const char *digits, uint64_t *number)
{
    *number = 0;
    if (!is_digit(*digits) || (digits[0] == '0' && digits[1] != '\0'))
        return false;
    for (; is_digit(*digits); digits++) {
        if (*number > (uint64_t)INT64_MAX / 10)
            return false;
        *number = *number * 10 + (uint64_t)(*digits - '0');
    }
    return *digits == '\0' && *number <= INT64_MAX;
}

static bool read_word(const char *word, const char *const *words, uint64_t *index)
{
    for (*index = 0; words[*index] != NULL; ++*index)
        if (strcmp(words[*index], word) == 0)
            return true;
    return false;
}

static bool read_field(char type, char *field, const char *const *words, uint64_t *number)
{
    if (!unquote(field) || strlen(field) > FIELD_BYTES_MAX)
        return false;
    switch (type) {
    case 'P':
        return is_path(field);
    case 'N':
        return is_name(field);
    case 'U':
        return read_number(field, number);
    case 'W':
        return words != NULL && read_word(field, words, number);
    case 'T':
        return is_text(field);
    default:
        return false;
    }
}

/* Cuts TEXT at the first SEPARATOR and returns what follows it, or NULL if there is none. */
static char *cut(char *text, char separator)
{
    char *end = strchr(text, separator);
    if (end == NULL)
        return NULL;
    *end = '\0';
    return end + 1;
}

static const char *read_record(const struct kind *kind, char *line, struct record *record)
{
    char *rest = cut(line, ' ');
    const struct rule *rule = NULL;
    for (size_t i = 0; i < kind->count && rule == NULL; i++)
        if (strcmp(kind->rules[i].key, line) == 0)
            rule = &kind->rules[i];
    if (rule == NULL)
        return "is no known record";
    record->key = (unsigned)(rule - kind->rules);
    size_t words = 0;
    for (size_t i = 0; rule->types[i] != '\0'; i++) {
        if (rest == NULL)
            return "has too few fields";
        char *field = rest;
        rest = cut(field, ' ');
        const char *const *list = rule->types[i] == 'W' ? rule->words[words++] : NULL;
        if (!read_field(rule->types[i], field, list, &record->number[i]))
            return "has a field of the wrong type";
        record->field[i] = field;
    }
    return rest == NULL ? NULL : "has too many fields";
}

static uint64_t fnv1a(const char *text, size_t size)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* Checks the last line against all before it and cuts it off. */
static const char *check_end(char *text, size_t size, size_t count)
{
    char expected[64];
    size_t body = size - 1; /* the last byte is the end line's newline */
    while (body > 0 && text[body - 1] != '\n')
        body--;
    snprintf(expected, sizeof expected, "end %zu %016llx\n", count,
             (unsigned long long)fnv1a(text, body));
    if (strcmp(text + body, expected) != 0)
        return "does not end as it should: truncated, or edited by hand";
    text[body] = '\0';
    return NULL;
}

static const char *check_header(const struct kind *kind, const char *line)
{
    char expected[64];
    int length = snprintf(expected, sizeof expected, MAGIC " %s ", kind->name);
    if (strncmp(line, expected, (size_t)length) != 0)
        return "does not begin with the line '" MAGIC " policy|plan VERSION'";
    snprintf(expected, sizeof expected, "%d", FORMAT_VERSION);
    return strcmp(line + length, expected) == 0 ? NULL : records_other_version;
}

static const char *check_counts(const struct kind *kind, const struct records *records)
{
    size_t counts[KEYS_MAX] = { 0 };
    for (size_t i = 0; i < records->count; i++)
        counts[records->list[i].key]++;
    for (size_t i = 0; i < kind->count; i++)
        if (counts[i] < kind->rules[i].least || counts[i] > kind->rules[i].most)
            return counts[i] == 0 ? "lacks a record that it needs" : "has a record too often";
    return NULL;
}

const char *records_read(struct records *records, enum records_kind which, char *text, size_t size,
                         size_t *line)
{
    const struct kind *kind = &kinds[which];
    *line = 0;
    records->count = 0;
    records->list = NULL;
    text[size] = '\0';
    if (size == 0 || strlen(text) != size || text[size - 1] != '\n')
        return "is empty, holds a NUL or lacks its last newline: truncated";
    size_t lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    char header[64];
    snprintf(header, sizeof header, "%.*s", (int)strcspn(text, "\n"), text);
    const char *problem = check_header(kind, header);
    if (problem != NULL)
        return problem;
    if (lines < 2 || lines - 2 > RECORDS_MAX)
        return "has no end line or too many records";
    problem = check_end(text, size, lines - 2);
    if (problem != NULL)
        return problem;
    records->list = calloc(lines, sizeof *records->list);
    if (records->list == NULL)
        return "does not fit into memory";
    char *next = cut(text, '\n');
    while (next != NULL && *next != '\0') {
        char *current = next;
        next = cut(current, '\n');
        *line = records->count + 2;
        problem = read_record(kind, current, &records->list[records->count++]);
        if (problem != NULL)
            return problem;
    }
    *line = 0;
    return check_counts(kind, records);
}

const struct record *records_next(const struct records *records, unsigned key,
                                  const struct record *previous)
{
    const struct record *end = records->list + records->count;
    for (const struct record *r = previous == NULL ? records->list : previous + 1; r < end; r++)
        if (r->key == key)
            return r;
    return NULL;
}
