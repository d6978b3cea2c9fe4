// SPDX-License-Identifier: Apache-2.0
#include "proxy/admin/doctor_report.h"

#include <bson/bson.h>
#include <string.h>

#include "proxy/admin/printed.h"
#include "proxy/mem.h"

enum { INDENT = 4 };

static const struct {
    const char *name;
    const char *looks_at;
    const char *takes;
    const char *when;
} checks[] = {
#define ROW(name, looks_at, takes, when) {#name, looks_at, takes, when},
    DOCTOR_CHECKS(ROW)
#undef ROW
};

static const char *const severities[] = {"fine", "note", "unseen", "warning", "critical"};

struct finding *doctor_find(struct doctor_report *report, enum doctor_check check,
                            enum severity severity, const char *subject)
{
    report->findings = xrealloc(report->findings, (report->count + 1) * sizeof report->findings[0]);
    struct finding *finding = &report->findings[report->count++];
    memset(finding, 0, sizeof *finding);
    finding->check = check;
    finding->severity = severity;
    say(finding->subject, "%s", subject);
    return finding;
}

void doctor_report_fini(struct doctor_report *report)
{
    free(report->findings);
    *report = (struct doctor_report){0};
}

static size_t count_of(const struct doctor_report *report, enum severity severity)
{
    size_t count = 0;
    for (size_t i = 0; i < report->count; i++) {
        count += report->findings[i].severity == severity;
    }
    return count;
}

int doctor_status(const struct doctor_report *report)
{
    return count_of(report, SEVERITY_CRITICAL) > 0  ? 2
           : count_of(report, SEVERITY_WARNING) > 0 ? 1
                                                    : 0;
}

// --- text ---------------------------------------------------------------------------------------

static void print_finding(const struct finding *finding, FILE *out)
{
    static const char *const shown[] = {"fine", "note", "NOT SEEN", "WARNING", "CRITICAL"};
    char subject[PRINTED_BYTES];
    printed_escape(finding->subject, subject);
    fprintf(out, "%-9s %-13s %.55s\n", shown[finding->severity], checks[finding->check].name,
            subject);
    print_wrapped(INDENT, "", finding->found, out);
    print_wrapped(INDENT, "Evidence: ", finding->evidence, out);
    print_wrapped(INDENT, "Remedy: ", finding->remedy, out);
}

static int compare(const void *a, const void *b)
{
    const struct finding *one = a;
    const struct finding *other = b;
    if (one->severity != other->severity) {
        return one->severity > other->severity ? -1 : 1;
    }
    return one->check != other->check ? (one->check < other->check ? -1 : 1)
                                      : strcmp(one->subject, other->subject);
}

void doctor_print_text(struct doctor_report *report, FILE *out)
{
    if (report->count > 0) {
        qsort(report->findings, report->count, sizeof report->findings[0], compare);
    }
    for (size_t i = 0; i < report->count; i++) {
        print_finding(&report->findings[i], out);
    }
    fprintf(out, "\n%zu critical, %zu warnings, %zu notes, %zu fine; %zu could not be seen.\n",
            count_of(report, SEVERITY_CRITICAL), count_of(report, SEVERITY_WARNING),
            count_of(report, SEVERITY_NOTE), count_of(report, SEVERITY_FINE),
            count_of(report, SEVERITY_UNSEEN));
}

// --- JSON ---------------------------------------------------------------------------------------

static void append(bson_t *document, const char *key, const char *text)
{
    char escaped[PRINTED_BYTES];
    if (bson_utf8_validate(text, strlen(text), false)) {
        BSON_APPEND_UTF8(document, key, text);
    } else {
        printed_escape(text, escaped);
        BSON_APPEND_UTF8(document, key, escaped);
    }
}

void doctor_print_json(const struct doctor_report *report, FILE *out)
{
    bson_t answer = BSON_INITIALIZER;
    bson_t list;
    bson_t one;
    BSON_APPEND_INT32(&answer, "status", doctor_status(report));
    BSON_APPEND_ARRAY_BEGIN(&answer, "findings", &list);
    for (size_t i = 0; i < report->count; i++) {
        const struct finding *finding = &report->findings[i];
        char number[16];
        const char *key;
        bson_uint32_to_string((uint32_t)i, &key, number, sizeof number);
        BSON_APPEND_DOCUMENT_BEGIN(&list, key, &one);
        append(&one, "check", checks[finding->check].name);
        append(&one, "severity", severities[finding->severity]);
        append(&one, "subject", finding->subject);
        append(&one, "found", finding->found);
        append(&one, "evidence", finding->evidence);
        append(&one, "remedy", finding->remedy);
        bson_append_document_end(&list, &one);
    }
    bson_append_array_end(&answer, &list);
    char *text = bson_as_relaxed_extended_json(&answer, NULL);
    fprintf(out, "%s\n", text ? text : "{}");
    bson_free(text);
    bson_destroy(&answer);
}

// --- the reference ------------------------------------------------------------------------------

void doctor_print_reference(FILE *out)
{
    fputs("# weir doctor\n\n"
          "<!-- Made by `weir doctor --print-reference` from proxy/admin/doctor_report.h. -->\n\n"
          "```\nweir doctor \"$MONGODB_URI\"\n"
          "weir doctor \"$MONGODB_URI\" --weir 27017 --tier M10 --dynos 2 --pool 150\n```\n\n"
          "looks at a deployment, with or without a running weir, and says of each finding what it "
          "goes by and\nwhat to do. It changes nothing, executes no query of yours (plans are "
          "explained with made-up values), and\nshows no values. What it may not see, for want of "
          "a privilege or because the server or Atlas tier does not\nhave the command, is listed "
          "as NOT SEEN. The role `clusterMonitor`, with read on the data, sees everything.\n\n"
          "Exit status, as monitors take it: 0 nothing worth a warning, 1 warnings, 2 something "
          "critical, 3 the question\nis wrong or no server answers. `--json` prints `{status, "
          "findings: [{check, severity, subject, found,\nevidence, remedy}]}`; a severity is one "
          "of fine, note, unseen, warning, critical.\n\n"
          "| check | looks at | by | when |\n|---|---|---|---|\n",
          out);
    for (size_t i = 0; i < CHECK_COUNT; i++) {
        fprintf(out, "| %s | %s | %s | %s |\n", checks[i].name, checks[i].looks_at, checks[i].takes,
                checks[i].when);
    }
}
