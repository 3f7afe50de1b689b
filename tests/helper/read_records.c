/* Runs the helper's reader of policies and plans on what comes in, for tests/unit/test_records_c.py.
 *
 * In, any number of times: 'o' (policy) or 'a' (plan), SIZE in 8 hex digits, SIZE bytes.
 * Out, for each: "- PROBLEM", or "+ COUNT" and a line for each record: its key's number, and for
 * each field " NUMBER:BYTES" with the bytes in hex.
 */
#include "../../wrappers/helper/records.c"

static size_t field_count(enum records_kind which, unsigned key)
{
    return strlen(kinds[which].rules[key].types);
}

static void print_record(enum records_kind which, const struct record *record)
{
    printf("%u", record->key);
    for (size_t i = 0; i < field_count(which, record->key); i++) {
        printf(" %llu:", (unsigned long long)record->number[i]);
        for (const char *c = record->field[i]; *c != '\0'; c++)
            printf("%02x", (unsigned)(unsigned char)*c);
    }
    putchar('\n');
}

static void answer(enum records_kind which, char *text, size_t size)
{
    struct records records;
    size_t line;
    const char *problem = records_read(&records, which, text, size, &line);
    if (problem != NULL)
        printf("- %s\n", problem);
    else
        printf("+ %zu\n", records.count);
    for (size_t i = 0; problem == NULL && i < records.count; i++)
        print_record(which, &records.list[i]);
    fflush(stdout);
    free(records.list);
}

int main(void)
{
    char head[10] = { 0 };
    while (fread(head, 1, 9, stdin) == 9) {
        size_t size = strtoul(head + 1, NULL, 16);
        char *text = malloc(size + 1); /* exactly: a byte more is the sanitizer's */
        if (text == NULL || fread(text, 1, size, stdin) != size)
            return 1;
        answer(head[0] == 'o' ? RECORDS_POLICY : RECORDS_PLAN, text, size);
        free(text);
    }
    return 0;
}
