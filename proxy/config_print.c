// SPDX-License-Identifier: Apache-2.0
//
// What people read about the settings, made from the table: --help and docs/configuration.md.

#include "proxy/rule_text.h"

#include <assert.h>
#include <string.h>

#include "proxy/users.h"

static const char usage[] =
    "Usage: weir URI [--max-connections N] [FLAG...]\n"
    "       weir check FILE [URI] [FLAG...]\n"
    "       weir exec [--variable NAME] [FLAG...] -- CMD...\n"
    "       weir top, weir ctl ORDER, weir doctor URI, weir plan --tier TIER,\n"
    "       weir explain-event ID|FILE, weir user add NAME | import (each has its own\n"
    "       --help)\n"
    "\n"
    "weir stands between an app and its MongoDB deployment: it terminates TLS,\n"
    "carries any number of connections of the app over a capped number of its own,\n"
    "refuses what is too much with errors that drivers understand, and logs who held\n"
    "the connections when they ran out.\n"
    "\n"
    "check says whether weir would start with a configuration; exec runs an app\n"
    "behind a weir of its own, which takes the deployment from MONGODB_URI, or from\n"
    "NAME; top shows live who holds the connections of a weir that runs, ctl gives it\n"
    "orders; explain-event prints why connections ran out; doctor asks a deployment\n"
    "what is wrong, plan whether an app's pools fit it; user makes entries for the\n"
    "list of those who may log in.\n"
    "\n"
    "Each flag has a variable (--max-wait: WEIR_MAX_WAIT) and a key in the YAML file.\n"
    "A flag wins over its variable, a variable over the file, the file over the\n"
    "default.\n"
    "\n"
    "  --config FILE\n"
    "      The YAML file.\n"
    "  --help, --version\n"
    "      Print this, print the version.\n";

static const char introduction[] =
    "# Configuration\n"
    "\n"
    "<!-- Made by `weir --print-reference` from proxy/config_table.h; a test compares them. -->\n"
    "\n"
    "`weir URI --max-connections 40` is enough to run. Everything else has a default, and every\n"
    "setting can be given in four ways, of which the first in this list wins:\n"
    "\n"
    "1. a flag, `--max-wait 50ms` or `--max-wait=50ms`; the URI needs no flag;\n"
    "2. a variable, `WEIR_MAX_WAIT=50ms`; an empty one counts as not set;\n"
    "3. the YAML file that `--config` or `WEIR_CONFIG` names;\n"
    "4. the default.\n"
    "\n"
    "A file has mongod.conf's names where mongod has the same thing:\n"
    "\n"
    "```yaml\n"
    "upstream:\n"
    "  uri: mongodb+srv://app:secret@cluster.example.net/?appName=shop\n"
    "  maxConnections: 40\n"
    "net:\n"
    "  bindIp: [127.0.0.1, 10.0.0.7]\n"
    "  tls:\n"
    "    mode: requireTLS\n"
    "    certificateKeyFile: /etc/weir/server.pem\n"
    "    CAFile: /etc/weir/ca.pem\n"
    "admission:\n"
    "  maxWait: 50ms\n"
    "```\n"
    "\n"
    "- Times have a unit: `100ms`, `10s`, `5m`, `1h`; only `0` needs none.\n"
    "- So have sizes: `64KB`, `64MB`, `1GB`, where a KB is 1024 bytes.\n"
    "- Lists are `a,b` or, in the file, also a YAML sequence.\n"
    "- A switch is `true` or `false`; as a flag it needs no value: `--flag` or `--flag=false`.\n"
    "\n"
    "`weir check FILE` says whether weir would start with that file; flags and variables count\n"
    "as they would at the start. A configuration that is wrong is refused with exit status 2 and\n"
    "one line that says where, what, and what would be right:\n"
    "\n"
    "```\n"
    "weir: weir.yaml:7: net.prot: unknown key, did you mean net.port?\n"
    "weir: --max-connections 0: must be 1 to 100000\n"
    "weir: WEIR_TLS_MODE requireTLS: needs WEIR_TLS_CERTIFICATE_KEY_FILE\n"
    "```\n"
    "\n"
    "A variable `WEIR_...` that is none of these is refused if it is nearly one of them.\n"
    "\n"
    "*Reloadable* is what a reload (operations.md) takes over while weir runs, as it does rules,\n"
    "users and what is in the certificates' files; if anything else differs, it says so by name.\n";

// Prints text in lines of at most width, each after indent, broken at spaces.
static void print_wrapped(FILE *out, const char *text, const char *indent, size_t width)
{
    while (*text != '\0') {
        size_t length = strlen(text);
        if (length > width) {
            for (length = width; length > 0 && text[length] != ' ';) {
                length--;
            }
        }
        assert(length > 0);
        fprintf(out, "%s%.*s\n", indent, (int)length, text);
        text += length;
        text += strspn(text, " ");
    }
}

static bool has_range(const struct option_row *row)
{
    return row->type == OPTION_INT || row->type == OPTION_DURATION || row->type == OPTION_BYTES ||
           row->type == OPTION_FRACTION;
}

void option_print_help(FILE *out, const struct option_row *row)
{
    bool is_switch = row->type == OPTION_BOOL;
    fprintf(out, "  --%s%s%s%s", row->flag, is_switch ? "[=" : " ", row->value,
            is_switch ? "]" : "");
    if (has_range(row) && row->preset == NULL) {
        fprintf(out, "  (%s to %s)\n", row->least, row->most);
    } else if (has_range(row)) {
        fprintf(out, "  (%s; %s to %s)\n", row->preset, row->least, row->most);
    } else {
        fprintf(out, row->preset != NULL ? "  (%s)\n" : "\n", row->preset);
    }
    print_wrapped(out, row->help, "      ", 74);
}

void config_print_help(FILE *out)
{
    fputs(usage, out);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        option_print_help(out, &option_rows[i]);
    }
}

static void print_reference_row(FILE *out, const struct option_row *row)
{
    char variable[OPTION_NAME_BYTES];
    option_variable(row->flag, variable);
    fprintf(out, "\n### `%s`\n\n`--%s`, `%s`", row->name, row->flag, variable);
    if (has_range(row)) {
        fprintf(out, "; %s to %s", row->least, row->most);
    } else {
        fprintf(out, "; `%s`", row->value);
    }
    if (row->preset != NULL) {
        fprintf(out, "; default `%s`", row->preset);
    }
    fprintf(out, "%s.\n\n", row->reloadable ? "; *reloadable*" : "; *needs a restart*");
    print_wrapped(out, row->help, "", 100);
}

static const char about_rules[] =
    "\n## rules\n"
    "\n"
    "A list, only in the file: [rules.md](rules.md) says what rules do. The first that matches an\n"
    "operation counts. All that a rule matches must be so; it needs something that it does.\n"
    "\n"
    "```yaml\n"
    "rules:\n"
    "  - {namespace: shop.orders, command: distinct, atOnce: 2, why: no index yet}\n"
    "  - {app: nightly.*, priority: low, lane: slow}\n"
    "```\n"
    "\n";

static void print_rules_reference(FILE *out)
{
    fputs(about_rules, out);
    for (int i = 0; i < RULE_OPTION_COUNT; i++) {
        const struct option_row *row = &rule_rows[i];
        char text[512];
        snprintf(text, sizeof text, "- `%s` (`%s`): %s", row->name, row->value, row->help);
        print_wrapped(out, text, "", 100);
    }
}

static const char about_users[] =
    "\n## users\n"
    "\n"
    "A list, only in the file: who may log in at weir, and what each may do then;\n"
    "[users.md](users.md) says more. What is not said is not allowed.\n"
    "\n"
    "```yaml\n"
    "users:\n"
    "  - name: shop\n"
    "    scramSha256: 15000:...:...:...   # made by weir user add shop\n"
    "    may: [read, write]\n"
    "    databases: [shop, shop_*]\n"
    "```\n"
    "\n";

static const char about_identities[] =
    "\n## identities\n"
    "\n"
    "A list, only in the file: users of the deployment, beside that of upstream.uri, as whom weir\n"
    "does what users of its own ask for. Each has connections of its own, all together within\n"
    "upstream.maxConnections.\n"
    "\n"
    "```yaml\n"
    "identities:\n"
    "  - {name: reports, username: reports, passwordFile: /etc/weir/reports.password}\n"
    "```\n"
    "\n";

static void print_entries_reference(FILE *out, const char *about, const struct entry_table *table)
{
    fputs(about, out);
    for (int i = 0; i < table->count; i++) {
        const struct option_row *row = &table->rows[i];
        char text[512];
        snprintf(text, sizeof text, "- `%s` (`%s`%s%s%s): %s", row->name, row->value,
                 row->preset ? "; default `" : "", row->preset ? row->preset : "",
                 row->preset ? "`" : "", row->help);
        print_wrapped(out, text, "", 100);
    }
}

// A section is what stands before the first dot; its rows are together in the table.
void config_print_reference(FILE *out)
{
    const char *section = "";
    fputs(introduction, out);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const char *name = option_rows[i].name;
        size_t length = strcspn(name, ".");
        if (strncmp(section, name, length + 1) != 0) {
            fprintf(out, "\n## %.*s\n", (int)length, name);
        }
        section = name;
        print_reference_row(out, &option_rows[i]);
    }
    print_rules_reference(out);
    print_entries_reference(out, about_users, &user_table);
    print_entries_reference(out, about_identities, &identity_table);
}
