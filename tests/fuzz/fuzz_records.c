/* libFuzzer target: the one parser that the privileged helper has.
 *
 * The first byte chooses policy or plan and whether the end line is put right, without which a
 * fuzzer would have to guess a hash; the rest is the text.
 */
#include "../../wrappers/helper/records.c"

static size_t sign(char *text, size_t size)
{
    size_t lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    return size + (size_t)sprintf(text + size, "end %zu %016llx\n", lines > 0 ? lines - 1 : 0,
                                  (unsigned long long)fnv1a(text, size));
}

/* Everything that the helper does with what it has accepted. */
static void use(const struct records *records, enum records_kind which)
{
    for (unsigned key = 0; key < kinds[which].count; key++) {
        const struct record *record = NULL;
        size_t seen = 0;
        while ((record = records_next(records, key, record)) != NULL) {
            seen++;
            for (size_t i = 0; kinds[which].rules[key].types[i] != '\0'; i++)
                if (record->field[i] == NULL || strlen(record->field[i]) > FIELD_BYTES_MAX)
                    abort();
        }
        if (seen < kinds[which].rules[key].least || seen > kinds[which].rules[key].most)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct records records;
    size_t line;
    if (size == 0)
        return 0;
    enum records_kind which = (data[0] & 1) != 0 ? RECORDS_POLICY : RECORDS_PLAN;
    size--;
    char *room = malloc(size + 64);
    memcpy(room, data + 1, size);
    if ((data[0] & 2) != 0)
        size = sign(room, size);
    char *text = malloc(size + 1); /* exactly: a byte more is the sanitizer's */
    memcpy(text, room, size);
    const char *problem = records_read(&records, which, text, size, &line);
    if (problem == NULL)
        use(&records, which);
    free(records.list);
    free(text);
    free(room);
    return 0;
}
