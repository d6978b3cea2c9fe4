// SPDX-License-Identifier: Apache-2.0
//
// The configuration: what is refused and in which words, which source wins, what is masked, and
// that the reference page says what the table says. Needs WEIR_SOURCE_DIR, the root of the sources.

#include "proxy/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/ip.h"
#include "proxy/log.h"
#include "proxy/rule_text.h"

#define URI "mongodb://127.0.0.1:27018"
#define MOST 8

// A way to start weir: the file's text (NULL: no file), WEIR_ variables, arguments. Each list ends
// at its first NULL.
struct start {
    const char *file;
    const char *variables[MOST];
    const char *arguments[MOST];
};

struct refusal {
    struct start start;
    const char *error; // FILE stands for the file's path
};

static char path[] = "/tmp/weir-test-config-XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_file(const char *text, size_t length)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static struct config *load(const struct start *start, char error[CONFIG_ERROR_BYTES])
{
    const char *argv[MOST + 4] = {"weir"};
    int argc = 1;
    if (start->file != NULL) {
        write_file(start->file, strlen(start->file));
        argv[argc++] = "--config";
        argv[argc++] = path;
    }
    for (int i = 0; i < MOST && start->arguments[i] != NULL; i++) {
        argv[argc++] = start->arguments[i];
    }
    const char *env[MOST + 1] = {NULL};
    memcpy(env, start->variables, sizeof start->variables);
    strcpy(error, "");
    return config_load(argc, (char *const *)argv, (char *const *)env, error);
}

static struct config *load_fine(const struct start *start)
{
    char error[CONFIG_ERROR_BYTES];
    struct config *config = load(start, error);
    if (config == NULL) {
        fail_msg("refused: %s", error);
    }
    return config;
}

static void expect(const struct refusal *refusal)
{
    char error[CONFIG_ERROR_BYTES], expected[CONFIG_ERROR_BYTES];
    struct config *config = load(&refusal->start, error);
    if (config != NULL) {
        fail_msg("not refused, expected: %s", refusal->error);
    }
    bool in_file = strncmp(refusal->error, "FILE", 4) == 0;
    snprintf(expected, sizeof expected, "%s%s", in_file ? path : "",
             refusal->error + (in_file ? 4 : 0));
    assert_string_equal(error, expected);
}

#define EXPECT_ALL(refusals)                                                                       \
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals)[0]; i++)                            \
    expect(&(refusals)[i])

#define FLAGS(...)                                                                                 \
    {                                                                                              \
        .arguments = { __VA_ARGS__ }                                                               \
    }
#define VARIABLES(...)                                                                             \
    {                                                                                              \
        .variables = {__VA_ARGS__}, .arguments = { URI }                                           \
    }
#define IN_FILE(text)                                                                              \
    {                                                                                              \
        .file = text, .arguments = { URI }                                                         \
    }

static void test_bad_flags(void **state)
{
    (void)state;
    static const struct refusal refusals[] = {
        {FLAGS(URI, "--max-connections", "0"), "--max-connections 0: must be 1 to 100000"},
        {FLAGS(URI, "--max-connections=100001"), "--max-connections 100001: must be 1 to 100000"},
        {FLAGS(URI, "--max-connections", "-1"), "--max-connections -1: must be 1 to 100000"},
        {FLAGS(URI, "--max-connections", "many"), "--max-connections many: must be 1 to 100000"},
        {FLAGS(URI, "--max-connections", "4 "), "--max-connections 4 : must be 1 to 100000"},
        {FLAGS(URI, "--max-connections", "99999999999999999999"),
         "--max-connections 99999999999999999999: must be 1 to 100000"},
        {FLAGS(URI, "--port="), "--port: must be 0 to 65535"},
        {FLAGS(URI, "--max-connections", "8", "--min-limit", "9"),
         "--min-limit 9: must not be above the cap, upstream.maxConnections 8"},
        {FLAGS(URI, "--limit", "none"), "--limit none: must be fixed|adaptive"},
        {FLAGS(URI, "--port"), "--port: needs a value"},
        {FLAGS(URI, "--port", "1", "--port", "2"), "--port: given twice"},
        {FLAGS(URI, "--prot", "1"), "--prot: unknown flag, did you mean --port?"},
        {FLAGS(URI, "--bind_ip", "::1"), "--bind_ip: unknown flag, did you mean --bind-ip?"},
        {FLAGS(URI, "--tlsMode=requireTLS"), "--tlsMode: unknown flag, did you mean --tls-mode?"},
        {FLAGS(URI, "--max-conn", "4"),
         "--max-conn: unknown flag, did you mean --max-connections?"},
        {FLAGS(URI, "--max-connection", "4"),
         "--max-connection: unknown flag, did you mean --max-connections?"},
        {FLAGS(URI, "--frobnicate"), "--frobnicate: unknown flag, see weir --help"},
        {FLAGS(URI, "-x"), "-x: unknown flag, see weir --help"},
        {FLAGS(URI, "--max-wait", "5"),
         "--max-wait 5: must be a time such as 100ms, 10s, 5m or 1h"},
        {FLAGS(URI, "--max-wait", "5us"),
         "--max-wait 5us: must be a time such as 100ms, 10s, 5m or 1h"},
        {FLAGS(URI, "--max-wait", "11m"), "--max-wait 11m: must be 0 to 10m"},
        {FLAGS(URI, "--max-wait", "9223372036854775807h"),
         "--max-wait 9223372036854775807h: must be 0 to 10m"},
        {FLAGS(URI, "--max-buffered", "512"),
         "--max-buffered 512: must be a size such as 64MB or 1GB"},
        {FLAGS(URI, "--max-buffered", "0"), "--max-buffered 0: must be 128MB to 1024GB"},
        {FLAGS(URI, "--max-buffered", "127MB"), "--max-buffered 127MB: must be 128MB to 1024GB"},
        {FLAGS(URI, "--slow-share", "1.5"), "--slow-share 1.5: must be 0.01 to 1"},
        {FLAGS(URI, "--slow-share", "nan"), "--slow-share nan: must be 0.01 to 1"},
        {FLAGS(URI, "--slow-share", "0x1p-1"), "--slow-share 0x1p-1: must be 0.01 to 1"},
        {FLAGS(URI, "--log-format", "xml"), "--log-format xml: must be logfmt|json"},
        {FLAGS(URI, "--tls-mode", "requiretls"),
         "--tls-mode requiretls: must be disabled|allowTLS|preferTLS|requireTLS"},
        {FLAGS(URI, "--allow-remote-without-auth=yes"),
         "--allow-remote-without-auth yes: must be true or false"},
        {FLAGS(URI, "--allow-remote-without-auth", "false"),
         "URI: given twice, or an argument that belongs to no flag"},
        {FLAGS(URI, "--bind-ip", "127.0.0.1,,::1"),
         "--bind-ip 127.0.0.1,,::1: must be a list such as a,b"},
        {FLAGS(URI, "--bind-ip", "127.0.0.1 ::1"),
         "--bind-ip 127.0.0.1 ::1: must be a list such as a,b"},
        {FLAGS(URI, "--bind-ip", ""), "--bind-ip: must not be empty"},
        {FLAGS(URI, "--unix-socket",
               "/tmp/0123456789012345678901234567890123456789012345678901234567890123456789"
               "01234567890123456789012345678901234567890123456789"),
         "--unix-socket /tmp/0123456789012345678901234567890123456789012345678901234567890123456789"
         "01234567890123456789012345678901234567890123456789: must be at most 107 bytes long"},
        {FLAGS(URI, "--unix-socket", "a\nb", "--port", "x\ny"), "--port x?y: must be 0 to 65535"},
        {FLAGS(URI, "--config", "/nonexistent/weir.yaml"),
         "/nonexistent/weir.yaml: No such file or directory"},
        {FLAGS(URI, "--config", "/tmp"), "/tmp: Is a directory"},
        {FLAGS(URI, "--config", "/dev/zero"), "/dev/zero: too large, must be less than 1 MB"},
    };
    EXPECT_ALL(refusals);
}

static void test_bad_uri(void **state)
{
    (void)state;
    static const char missing[] =
        "URI: missing; weir URI, WEIR_URI or upstream.uri in the file says where the deployment is";
    static const char scheme[] = "URI: must begin with mongodb:// or mongodb+srv://";
    static const struct refusal refusals[] = {
        {FLAGS(NULL), missing},
        {{.variables = {"WEIR_URI="}}, missing},
        {FLAGS("app:s3cret@host"), scheme},
        {FLAGS(""), scheme},
        {FLAGS("--uri", "postgres://app:s3cret@host"), scheme},
        {FLAGS("--", "--port"), scheme},
        {{.variables = {"WEIR_URI=app:s3cret@host"}},
         "WEIR_URI: must begin with mongodb:// or mongodb+srv://"},
        {{.file = "upstream: {uri: 'app:s3cret@host'}"},
         "FILE:1: upstream.uri: must begin with mongodb:// or mongodb+srv://"},
        {FLAGS("mongodb://app:s3cret", "w@host"),
         "URI: given twice, or an argument that belongs to no flag"},
        {FLAGS(URI, "--", "x"), "URI: given twice, or an argument that belongs to no flag"},
        {FLAGS("--uri", URI, URI), "URI: given twice, or an argument that belongs to no flag"},
    };
    EXPECT_ALL(refusals);
}

static void test_bad_variables(void **state)
{
    (void)state;
    static const struct refusal refusals[] = {
        {VARIABLES("WEIR_PORT=70000"), "WEIR_PORT 70000: must be 0 to 65535"},
        {VARIABLES("HOME=/root", "WEIR_MAX_WAIT=never"),
         "WEIR_MAX_WAIT never: must be a time such as 100ms, 10s, 5m or 1h"},
        {VARIABLES("WEIR_MAX_CONECTIONS=4"),
         "WEIR_MAX_CONECTIONS: unknown variable, did you mean WEIR_MAX_CONNECTIONS?"},
        {VARIABLES("WEIR_URL=mongodb://a"), "WEIR_URL: unknown variable, did you mean WEIR_URI?"},
        {VARIABLES("WEIR_CONFIG=/nonexistent"), "/nonexistent: No such file or directory"},
        {VARIABLES("WEIR_TLS_MODE=requireTLS"),
         "WEIR_TLS_MODE requireTLS: needs WEIR_TLS_CERTIFICATE_KEY_FILE"},
        // refused although a flag would win
        {{.variables = {"WEIR_PORT=x"}, .arguments = {URI, "--port", "1"}},
         "WEIR_PORT x: must be 0 to 65535"},
    };
    EXPECT_ALL(refusals);
}

static void test_bad_keys(void **state)
{
    (void)state;
    static const struct refusal refusals[] = {
        {IN_FILE("net:\n  bindIp: ::1\n  prot: 1\n"),
         "FILE:3: net.prot: unknown key, did you mean net.port?"},
        {IN_FILE("port: 1"), "FILE:1: port: unknown key, did you mean net.port?"},
        {IN_FILE("net: {maxConnections: 1}"),
         "FILE:1: net.maxConnections: unknown key, did you mean upstream.maxConnections?"},
        {IN_FILE("operationProfiling: {slowOpThresholdMs: 100}"),
         "FILE:1: operationProfiling.slowOpThresholdMs: unknown key, did you mean "
         "operationProfiling.slowOpThreshold?"},
        {IN_FILE("nett: {port: 1}"), "FILE:1: nett: unknown key, did you mean net?"},
        {IN_FILE("tls: {mode: requireTLS}"), "FILE:1: tls: unknown key, did you mean net.tls?"},
        {IN_FILE("storage:\n  dbPath: /data"), "FILE:1: storage: unknown key"},
        {IN_FILE("'': 1"), "FILE:1: : unknown key"},
        {IN_FILE("net:\n  ? [a]\n  : 1"), "FILE:2: net: a key must be a name"},
        {IN_FILE("\"a\\0b\": 1"), "FILE:1: file: a key must be a name"},
        {IN_FILE("net:\n  port: 1\n  port: 1\n"), "FILE:3: net.port: given twice"},
        {IN_FILE("net: {port: 1}\nnet: {threads: 1}\n"), "FILE:2: net: given twice"},
        {IN_FILE("net: {port: 1}\nnet.port: 2\n"), "FILE:2: net.port 2: given twice"},
        {IN_FILE("net: &a\n  tls: *a\n"),
         "FILE:2: net.tls.tls: unknown key, did you mean net.tls?"},
        {IN_FILE("<<: {net: {port: 1}}\n"), "FILE:1: <<: unknown key"},
    };
    EXPECT_ALL(refusals);
}

static void test_bad_values(void **state)
{
    (void)state;
    static const struct refusal refusals[] = {
        {IN_FILE("net:\n  port: 65536\n"), "FILE:2: net.port 65536: must be 0 to 65535"},
        {IN_FILE("net:\n  port:\n"), "FILE:2: net.port: has no value"},
        {IN_FILE("net:\n  port: ~\n"), "FILE:2: net.port: has no value"},
        {IN_FILE("net: {unixSocket: ''}"), "FILE:1: net.unixSocket: must not be empty"},
        {IN_FILE("net: {unixSocket: \"/a\\0b\"}"), "FILE:1: net.unixSocket: must be one value"},
        {IN_FILE("net:\n  port: [1, 2]\n"), "FILE:2: net.port: must be one value"},
        {IN_FILE("net:\n  port: {a: 1}\n"), "FILE:2: net.port: must be one value"},
        {IN_FILE("net: {bindIp: {a: 1}}"), "FILE:1: net.bindIp: must be one value"},
        {IN_FILE("net:\n  bindIp:\n    - ::1\n    - [a]\n"),
         "FILE:3: net.bindIp: must be a list of texts"},
        {IN_FILE("net: {bindIp: []}"), "FILE:1: net.bindIp: must not be empty"},
        {IN_FILE("net: {bindIp: ['', a]}"), "FILE:1: net.bindIp ,a: must be a list such as a,b"},
        {IN_FILE("net: 27017"), "FILE:1: net: must be a section, with keys of its own"},
        {IN_FILE("net:\n  tls: [mode]\n"),
         "FILE:2: net.tls: must be a section, with keys of its own"},
        {IN_FILE("security: {allowRemoteWithoutAuth: yes}"),
         "FILE:1: security.allowRemoteWithoutAuth yes: must be true or false"},
        {IN_FILE("hello"), "FILE:1: file: must hold keys, such as net:"},
        {IN_FILE("- net"), "FILE:1: file: must hold keys, such as net:"},
        {IN_FILE("net: {}\n---\nnet: {}\n"), "FILE:3: a second document"},
        {IN_FILE("net:\n  port: [1\n"), "FILE:3: not valid YAML: did not find expected ',' or ']'"},
        {IN_FILE("net:\n\tport: 1\n"),
         "FILE:2: not valid YAML: found character that cannot start any token"},
        {IN_FILE("# one\n# \xff\n"), "FILE:2: not valid YAML: invalid leading UTF-8 octet"},
    };
    EXPECT_ALL(refusals);
}

static void test_contradictions(void **state)
{
    (void)state;
    static const struct refusal refusals[] = {
        {IN_FILE("net:\n  tls:\n    mode: requireTLS\n"),
         "FILE:3: net.tls.mode requireTLS: needs net.tls.certificateKeyFile"},
        {IN_FILE("net:\n  tls:\n    certificateKeyFile: /a.pem\n"),
         "FILE:3: net.tls.certificateKeyFile /a.pem: needs net.tls.mode allowTLS, preferTLS or "
         "requireTLS"},
        {FLAGS(URI, "--tls-ca-file", "/ca.pem"),
         "--tls-ca-file /ca.pem: needs --tls-mode allowTLS, preferTLS or requireTLS"},
        {FLAGS(URI, "--tls-mode", "allowTLS", "--tls-certificate-key-file", "/a.pem",
               "--tls-allow-connections-without-certificates"),
         "--tls-allow-connections-without-certificates true: needs --tls-ca-file"},
        {FLAGS(URI, "--fleet-cap", "50"), "--fleet-cap 50: needs --fleet-redis"},
        {IN_FILE("fleet:\n  user: weir\n"), "FILE:2: fleet.user weir: needs fleet.redis"},
        {FLAGS(URI, "--compressors", "zlib,lz4"),
         "--compressors zlib,lz4: must be of snappy, zstd, zlib, or disabled"},
        {IN_FILE("net:\n  compression:\n    compressors: [zlib, disabled]\n"),
         "FILE:3: net.compression.compressors zlib,disabled: must be of snappy, zstd, zlib, or "
         "disabled"},
        {FLAGS(URI, "--tenant-by", "user"), "--tenant-by user: must be app|address"},
        {FLAGS(URI, "--tenant-weights", "a=1,b"),
         "--tenant-weights a=1,b: must be of NAME=N, N from 1 to 1000"},
        {FLAGS(URI, "--tenant-weights", "a=0"),
         "--tenant-weights a=0: must be of NAME=N, N from 1 to 1000"},
        {FLAGS(URI, "--tenant-weights", "a=1001"),
         "--tenant-weights a=1001: must be of NAME=N, N from 1 to 1000"},
        {FLAGS(URI, "--tenant-weights", "a=-1"),
         "--tenant-weights a=-1: must be of NAME=N, N from 1 to 1000"},
        {FLAGS(URI, "--tenant-weights", "a=2x"),
         "--tenant-weights a=2x: must be of NAME=N, N from 1 to 1000"},
        {FLAGS(URI, "--tenant-weights", "a=99999999999999999999"),
         "--tenant-weights a=99999999999999999999: must be of NAME=N, N from 1 to 1000"},
        {IN_FILE("admission:\n  tenantWeights: [a=2, '=3']\n"),
         "FILE:2: admission.tenantWeights a=2,=3: must be of NAME=N, N from 1 to 1000"},
        {FLAGS(URI, "--bind-ip", "127.0.0.1,0.0.0.0"),
         "--bind-ip 127.0.0.1,0.0.0.0: needs --allow-remote-without-auth, or users in the file, or "
         "client certificates "
         "required of everybody: TLS mode requireTLS, a CA file, none allowed without"},
    };
    EXPECT_ALL(refusals);
}

// Of the second rule of a file, on its line 3.
#define RULE(text)                                                                                 \
    {                                                                                              \
        .file = "rules:\n  - {app: web, lane: slow}\n  - {" text "}\n", .arguments = { URI }       \
    }
#define RULE_2 "FILE:3: rules, the 2. one: "
#define NO_EFFECT                                                                                  \
    "it has no effect: needs one of deny, perSecond, atOnce, maxTime, defaultTime, priority, "     \
    "lane, killAfter"

static void test_bad_rules(void **state)
{
    (void)state;
    static const struct refusal refusals[] = {
        {IN_FILE("rules: deny"), "FILE:1: rules: must be a list, each with a -"},
        {IN_FILE("rules: {deny: true}"), "FILE:1: rules: must be a list, each with a -"},
        {IN_FILE("rules: [deny]"), "FILE:1: rules: each must hold keys of its own"},
        {IN_FILE("rule: []"), "FILE:1: rule: unknown key, did you mean rules?"},
        {IN_FILE("rules: [{app: }]"), "FILE:1: app: has no value"},
        {IN_FILE("rules: [{app: {a: b}}]"), "FILE:1: app: must be one value or a list of texts"},
        {IN_FILE("rules: [{app: a, app: b}]"), "FILE:1: app: given twice"},
        {RULE("namespce: a.b, deny: true"),
         RULE_2 "namespce: unknown field, did you mean namespace?"},
        {RULE("zzzzzzzzz: 1"), RULE_2 "zzzzzzzzz: unknown field of a rule"},
        {RULE("app: a"), RULE_2 NO_EFFECT},
        {RULE("app: a, deny: false"), RULE_2 NO_EFFECT},
        {RULE("app: a, why: none"), RULE_2 NO_EFFECT},
        {RULE("deny: true"), RULE_2 "it matches every operation; if that is meant, say all: true"},
        {RULE("all: false, deny: true"),
         RULE_2 "it matches every operation; if that is meant, say all: true"},
        {RULE("all: true, app: a, deny: true"), RULE_2 "all: contradicts app"},
        {RULE("app: a, deny: true, atOnce: 3"), RULE_2 "deny: contradicts atOnce"},
        {RULE("app: a, deny: true, maxTime: 3s"), RULE_2 "deny: contradicts maxTime"},
        {RULE("app: a, maxTime: 1s, defaultTime: 2s"),
         RULE_2 "defaultTime: contradicts maxTime, which is less"},
        {RULE("app: a, deny: true, for: 5m"),
         RULE_2 "for: a rule of the file lasts until it is taken out of it; weir ctl rule add "
                "makes one that ends"},
        {RULE("app: a, deny: true, last: true"),
         RULE_2 "last: the order in the file is as written"},
        {RULE("app: a, perSecond: 0"), RULE_2 "perSecond: must be 1 to 1000000"},
        {RULE("app: a, atOnce: many"), RULE_2 "atOnce: must be 1 to 1000000"},
        {RULE("app: a, maxTime: 5"), RULE_2 "maxTime: must be a time such as 100ms, 10s, 5m or 1h"},
        {RULE("app: a, priority: urgent"), RULE_2 "priority: must be normal|high|low"},
        {RULE("app: a, lane: fast"), RULE_2 "lane: must be slow"},
        {RULE("kind: reads, deny: true"), RULE_2 "kind: must be read|write"},
        {RULE("namespace: orders, deny: true"),
         RULE_2 "namespace: must be database.collection or database.*"},
        {RULE("namespace: '*.a', deny: true"),
         RULE_2 "namespace: a * may only be the end of a collection's name"},
        {RULE("app: '*', deny: true"), RULE_2 "app: must be all of it, or its beginning and a *"},
        {RULE("command: getmore, deny: true"), RULE_2 "command: unknown, did you mean getMore?"},
        {RULE("command: hello, deny: true"),
         RULE_2 "command: weir answers that itself: no rule is asked"},
        {RULE("shape: find, deny: true"),
         RULE_2 "shape: must be 16 hexadecimal digits, a shape_id of the log"},
        {RULE("client: 10.0.0.1/8, deny: true"),
         RULE_2 "client: must be an address or a net such as 10.1.0.0/16, whose host bits are 0"},
        {RULE("client: 0.0.0.0/0, deny: true"),
         RULE_2 "client: must be an address or a net such as 10.1.0.0/16, whose host bits are 0"},
        {RULE("app: a, deny: true, why: \"a\\nb\""),
         RULE_2 "why: must not have control characters"},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        expect(&refusals[i]);
    }
}

static void test_too_many_rules(void **state)
{
    (void)state;
    static char text[16384];
    struct start start = {.file = text, .arguments = {URI}};
    char error[CONFIG_ERROR_BYTES];
    for (int count = 256; count <= 257; count++) {
        int used = snprintf(text, sizeof text, "rules:\n- &r {app: web, deny: true}\n");
        for (int i = 1; i < count; i++) {
            used += snprintf(text + used, sizeof text - (size_t)used, "- *r\n");
        }
        struct config *config = load(&start, error);
        assert_int_equal(config != NULL, count == 256);
        config_free(config);
    }
    assert_non_null(strstr(error, ":2: rules: 257 are too many, at most 256"));
}

static void test_rules(void **state)
{
    (void)state;
    struct start start = {.file = "rules:\n"
                                  "  - namespace: shop.ord*\n"
                                  "    command: find\n"
                                  "    atOnce: 20\n"
                                  "    maxTime: 2s\n"
                                  "    deny: false\n"
                                  "  - {client: 'fd00::/8', kind: write, priority: low}\n",
                          .arguments = {URI}};
    static const char *const words[] = {"namespace shop.ord*, command find: atOnce 20, maxTime 2s",
                                        "client fd00::/8, kind write: priority low"};
    struct config *config = load_fine(&start);
    assert_int_equal(config->rules.count, 2);
    for (size_t i = 0; i < 2; i++) {
        struct rule_spec spec = {0};
        char reason[OPTION_REASON_BYTES], said[RULE_WORDS_BYTES];
        int line;
        assert_true(rule_spec_read(&spec, &config->rules.items[i], &line, reason));
        rule_spec_words(&spec, said);
        assert_string_equal(said, words[i]);
        rule_spec_clear(&spec);
    }
    config_free(config);
}

static void test_nets(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int bits; // 0: is none
    } nets[] = {
        {"10.1.2.3", 128},  {"10.0.0.0/8", 104}, {"128.0.0.0/1", 97},
        {"::1", 128},       {"fd00::/8", 8},     {"10.1.2.3/32", 128},
        {"10.0.0.0/33", 0}, {"fd00::/129", 0},   {"10.0.0.0/", 0},
        {"/8", 0},          {"10.0.0.0/8 ", 0},  {"10.0.0.0/-8", 0},
        {"localhost", 0},   {"10.0.0", 0},       {"fd00::/0", 0},
        {"10.0.0.1/8", 0},
    };
    uint8_t address[IP_BYTES], peer[IP_BYTES];
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
        int bits = 0;
        bool is_net = ip_read_net(nets[i].text, address, &bits);
        assert_int_equal(is_net, nets[i].bits > 0);
        assert_true(!is_net || bits == nets[i].bits);
    }
    assert_true(ip_read("10.1.2.3", address) && ip_read_peer("10.1.2.3:50123", peer));
    assert_memory_equal(address, peer, IP_BYTES);
    assert_true(ip_read("fe80::1", address) && ip_read_peer("[fe80::1%lo]:50123", peer));
    assert_memory_equal(address, peer, IP_BYTES);
    assert_true(ip_read("::ffff:10.1.2.3", address) && ip_read("10.1.2.3", peer));
    assert_memory_equal(address, peer, IP_BYTES);
    assert_false(ip_read_peer("unix", peer) || ip_read_peer("/tmp/a.sock", peer));
}

#define TLS "--tls-mode=requireTLS", "--tls-certificate-key-file=/a.pem", "--tls-ca-file=/ca.pem"

static void test_remote(void **state)
{
    (void)state;
    static const struct {
        struct start start;
        bool allowed;
    } cases[] = {
        {FLAGS(URI, "--bind-ip", "127.1.2.3,::1,localhost,::ffff:127.0.0.1"), true},
        {FLAGS(URI, "--bind-ip", "::"), false},
        {FLAGS(URI, "--bind-ip", "::ffff:10.0.0.1"), false},
        {FLAGS(URI, "--bind-ip", "db.example.net"), false},
        {FLAGS(URI, "--bind-ip", "10.0.0.1", "--allow-remote-without-auth"), true},
        {FLAGS(URI, "--bind-ip", "10.0.0.1", "--allow-remote-without-auth=false"), false},
        {FLAGS(URI, "--bind-ip", "10.0.0.1", TLS), true},
        {FLAGS(URI, "--bind-ip", "10.0.0.1", TLS, "--tls-allow-connections-without-certificates"),
         false},
        {FLAGS(URI, "--bind-ip", "10.0.0.1", "--tls-mode=preferTLS",
               "--tls-certificate-key-file=/a.pem", "--tls-ca-file=/ca.pem"),
         false},
        {FLAGS(URI, "--bind-ip", "10.0.0.1", "--tls-mode=requireTLS",
               "--tls-certificate-key-file=/a.pem"),
         false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char error[CONFIG_ERROR_BYTES];
        struct config *config = load(&cases[i].start, error);
        if ((config != NULL) != cases[i].allowed) {
            fail_msg("case %zu: %s", i, error);
        }
        config_free(config);
    }
}

static void test_presets(void **state)
{
    (void)state;
    struct start start = FLAGS(URI);
    struct config *config = load_fine(&start);
    assert_string_equal(config->uri, URI);
    assert_int_equal(config->max_connections, 100);
    assert_int_equal(config->connect_timeout_us, 10000000);
    assert_int_equal(config->upstream_max_idle_time_us, 600000000);
    assert_int_equal(config->upstream_max_age_us, 3600000000);
    assert_int_equal(config->server_wait_us, 12000000);
    assert_int_equal(config->bind_ip.count, 1);
    assert_string_equal(config->bind_ip.items[0], "127.0.0.1");
    assert_int_equal(config->port, 27017);
    assert_null(config->unix_socket);
    assert_int_equal(config->threads, 0);
    assert_int_equal(config->max_incoming_connections, 65536);
    assert_int_equal(config->handshake_timeout_us, 10000000);
    assert_int_equal(config->message_timeout_us, 60000000);
    assert_int_equal(config->max_buffered_bytes, 512 << 20);
    assert_int_equal(config->tls_mode, CONFIG_TLS_DISABLED);
    assert_null(config->tls_certificate_key_file);
    assert_null(config->tls_ca_file);
    assert_false(config->tls_allow_connections_without_certificates);
    assert_false(config->allow_remote_without_auth);
    assert_int_equal(config->max_wait_us, 100000);
    assert_int_equal(config->max_queue, 10000);
    assert_int_equal(config->limit, CONFIG_LIMIT_ADAPTIVE);
    assert_int_equal(config->min_limit, 4);
    assert_float_equal(config->slow_share, 0.25, 1e-9);
    assert_int_equal(config->slow_op_threshold_us, 100000);
    assert_int_equal(config->log_format, LOG_LOGFMT);
    assert_null(config->file);
    config_free(config);
}

static void test_file(void **state)
{
    (void)state;
    struct start start = {.file = "# all kinds\r\n"
                                  "upstream:\n"
                                  "  uri: 'mongodb+srv://h.example.net'\n"
                                  "  maxConnections: \"40\"\n"
                                  "  maxAge: 0\n"
                                  "net:\n"
                                  "  bindIp:\n"
                                  "  - 127.0.0.1\n"
                                  "  - ::1\n"
                                  "  tls: {mode: &m preferTLS, certificateKeyFile: '/a b.pem'}\n"
                                  "  maxBufferedBytes: 1GB\n"
                                  "net.port: 0\n"
                                  "security:\n"
                                  "admission: {slowShare: 1, maxWait: 1500ms}\n"
                                  "systemLog: {format: json}\n"};
    struct config *config = load_fine(&start);
    assert_string_equal(config->uri, "mongodb+srv://h.example.net");
    assert_int_equal(config->max_connections, 40);
    assert_int_equal(config->upstream_max_age_us, 0);
    assert_int_equal(config->bind_ip.count, 2);
    assert_string_equal(config->bind_ip.items[1], "::1");
    assert_int_equal(config->tls_mode, CONFIG_TLS_PREFER);
    assert_string_equal(config->tls_certificate_key_file, "/a b.pem");
    assert_int_equal(config->max_buffered_bytes, 1 << 30);
    assert_int_equal(config->port, 0);
    assert_float_equal(config->slow_share, 1, 1e-9);
    assert_int_equal(config->max_wait_us, 1500000);
    assert_int_equal(config->log_format, LOG_JSON);
    assert_string_equal(config->file, path);
    config_free(config);
}

static void test_empty_files(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "# nothing\n", "---\n", "{}", "net:\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct start start = {.file = texts[i], .arguments = {URI}};
        config_free(load_fine(&start));
    }
}

static void test_precedence(void **state)
{
    (void)state;
    struct start start = {.file = "upstream: {uri: 'mongodb://file', maxConnections: 2}\n"
                                  "net: {port: 2, bindIp: ['::1', 127.0.0.2], threads: 2}\n",
                          .variables = {"WEIR_PORT=3", "WEIR_MAX_CONNECTIONS=3",
                                        "WEIR_THREADS=", "WEIR_CONFIG=/nonexistent"},
                          .arguments = {"--port", "4", "--bind-ip= 127.0.0.4 , localhost "}};
    struct config *config = load_fine(&start);
    assert_string_equal(config->uri, "mongodb://file");
    assert_int_equal(config->port, 4);
    assert_int_equal(config->max_connections, 3);
    assert_int_equal(config->min_limit, 3); // its preset is 4
    assert_int_equal(config->threads, 2);
    assert_int_equal(config->max_queue, 10000);
    assert_int_equal(config->bind_ip.count, 2);
    assert_string_equal(config->bind_ip.items[0], "127.0.0.4");
    assert_string_equal(config->bind_ip.items[1], "localhost");
    assert_int_equal(config->origins[CONFIG_OPTION_port].source, CONFIG_FROM_FLAG);
    assert_int_equal(config->origins[CONFIG_OPTION_threads].line, 2);
    config_free(config);
}

// What Kubernetes sets in a pod beside services named weir and weir-metrics, and what is not ours.
static void test_variables_of_others(void **state)
{
    (void)state;
    struct start start =
        VARIABLES("WEIR_SERVICE_HOST=10.0.0.1", "WEIR_SERVICE_PORT=27017",
                  "WEIR_PORT=tcp://10.0.0.1:27017", "WEIR_PORT_27017_TCP_PROTO=tcp",
                  "WEIR_METRICS_PORT=tcp://10.0.0.1:80", "WEIR_VERSION=1", "WEIR_=", "WEIR");
    struct config *config = load_fine(&start);
    assert_int_equal(config->port, 27017);
    config_free(config);
}

static void test_describe(void **state)
{
    (void)state;
    struct start start = {.file = "net:\n  unixSocket: /a\n",
                          .variables = {"WEIR_THREADS=1"},
                          .arguments = {"mongodb://app:s3cret@h", "--bind-ip", "::1,127.0.0.1"}};
    struct config *config = load_fine(&start);
    char subject[CONFIG_SUBJECT_BYTES], expected[CONFIG_SUBJECT_BYTES];
    snprintf(expected, sizeof expected, "%s:2: net.unixSocket /a", path);
    config_describe(config, CONFIG_OPTION_unix_socket, subject);
    assert_string_equal(subject, expected);
    config_describe(config, CONFIG_OPTION_threads, subject);
    assert_string_equal(subject, "WEIR_THREADS 1");
    config_describe(config, CONFIG_OPTION_bind_ip, subject);
    assert_string_equal(subject, "--bind-ip ::1,127.0.0.1");
    config_describe(config, CONFIG_OPTION_port, subject);
    assert_string_equal(subject, "net.port 27017");
    config_describe(config, CONFIG_OPTION_tls_ca_file, subject);
    assert_string_equal(subject, "net.tls.CAFile");
    config_describe(config, CONFIG_OPTION_uri, subject);
    assert_string_equal(subject, "URI");
    config_free(config);
}

static void write_setting(void *context, const char *name, const char *value)
{
    fprintf((FILE *)context, "%s: %s\n", name, value);
}

// Each setting, as it is shown, is also what a file may say; so the round ends where it began.
static void test_each(void **state)
{
    (void)state;
    struct start start = FLAGS("mongodb://h", "--max-wait=1500ms", "--upstream-max-age=0",
                               "--slow-share=0.125", "--max-buffered=131073KB", TLS);
    char *shown[2];
    for (int round = 0; round < 2; round++) {
        size_t size;
        FILE *out = open_memstream(&shown[round], &size);
        struct config *config = load_fine(&start);
        config_each(config, false, write_setting, out);
        config_free(config);
        assert_int_equal(fclose(out), 0);
        start = (struct start){.file = shown[0]};
    }
    assert_non_null(strstr(shown[0], "upstream.uri: mongodb://h\n"));
    assert_non_null(strstr(shown[0], "admission.maxWait: 1500ms\nadmission.maxQueue: 10000\n"));
    assert_non_null(strstr(shown[0], "upstream.maxAge: 0\n"));
    assert_non_null(strstr(shown[0], "admission.slowShare: 0.125\n"));
    assert_non_null(strstr(shown[0], "net.maxBufferedBytes: 131073KB\n"));
    assert_non_null(strstr(shown[0], "net.tls.mode: requireTLS\n"));
    assert_null(strstr(shown[0], "unixSocket"));
    assert_string_equal(shown[0], shown[1]);
    free(shown[0]);
    free(shown[1]);
}

static void test_each_that_was_given(void **state)
{
    (void)state;
    struct start start = FLAGS("mongodb://h", "--max-wait=1500ms");
    char *shown;
    size_t size;
    FILE *out = open_memstream(&shown, &size);
    struct config *config = load_fine(&start);
    config_each(config, true, write_setting, out);
    config_free(config);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(shown, "upstream.uri: mongodb://h\nadmission.maxWait: 1500ms\n");
    free(shown);
}

static void test_masks(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"mongodb://h", "mongodb://h"},
        {"mongodb://h:1,[::1]:2,%2Ftmp%2Fa.sock/db?tls=true", NULL},
        {"mongodb://app@h/?a=b", NULL},
        {"mongodb://app:s3cret@h:1,i:2/db?a=b", "mongodb://app:***@h:1,i:2/db?a=b"},
        {"mongodb+srv://app:s3cret@h", "mongodb+srv://app:***@h"},
        {"mongodb://app:@h", "mongodb://app:***@h"},
        {"mongodb://:s3cret@h", "mongodb://:***@h"},
        {"mongodb://app:s3:cr@et@h", "mongodb://app:***@h"},
        // not escaped: where does the password end?
        {"mongodb://app:s3/cr@h/", "mongodb://***"},
        {"mongodb://app:s3?cr@h/", "mongodb://***"},
        {"mongodb://h/?tlsCertificateKeyFilePassword=s3@cret", "mongodb://***"},
        // escaped too much, or no host
        {"mongodb://app:s3cret%40h/", "mongodb://***"},
        {"mongodb://app:123%40h/", "mongodb://***"},
        {"mongodb://app:s3cret", "mongodb://***"},
        {"app:s3cret@h", "***"},
        {"", "***"},
        {"mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:s3cret&tls=true",
         "mongodb://h/?authMechanismProperties=***&tls=true"},
        {"mongodb://h/?TLSCERTIFICATEKEYFILEPASSWORD=s3cret",
         "mongodb://h/?TLSCERTIFICATEKEYFILEPASSWORD=***"},
        {"mongodb://h/?a=b&sslclientcertificatekeypassword=s3cret&c=d",
         "mongodb://h/?a=b&sslclientcertificatekeypassword=***&c=d"},
        {"mongodb://h/?a=b;proxyPassword=s3;cret&c=d", "mongodb://h/?a=***&c=d"},
        {"mongodb://h/?proxyPassword=s3&cret", "mongodb://h/?proxyPassword=***&***"},
        {"mongodb://h/?a=b&&=&", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char masked[CONFIG_VALUE_BYTES];
        config_mask_uri(cases[i][0], masked, sizeof masked);
        assert_string_equal(masked, cases[i][1] != NULL ? cases[i][1] : cases[i][0]);
    }
}

static void test_url_masks(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"https://h.example/s3cret", "https://h.example/***"},
        {"https://h.example:8443", "https://h.example:8443/***"},
        {"https://h?s3cret#x", "https://h/***"},
        {"https://h\\s3cret", "https://h/***"},
        {"https://app:s3cret@h/", "***"},
        {"h/s3cret", "***"},
        {"", "***"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char masked[CONFIG_VALUE_BYTES];
        config_mask_url(cases[i][0], masked, sizeof masked);
        assert_string_equal(masked, cases[i][1]);
    }
}

static void test_mask_cuts(void **state)
{
    (void)state;
    static const char uri[] = "mongodb://app:s3cret@h/?proxyPassword=s3cret";
    char whole[CONFIG_VALUE_BYTES], masked[sizeof whole];
    config_mask_uri(uri, whole, sizeof whole);
    for (size_t size = 1; size <= strlen(whole) + 1; size++) {
        config_mask_uri(uri, masked, size);
        assert_int_equal(strlen(masked), size - 1);
        assert_memory_equal(masked, whole, size - 1);
    }
}

static void test_each_masks(void **state)
{
    (void)state;
    struct start start = FLAGS("mongodb://app:s3cret@h/?tlsCertificateKeyFilePassword=s3cret");
    char *shown;
    size_t size;
    FILE *out = open_memstream(&shown, &size);
    struct config *config = load_fine(&start);
    config_each(config, false, write_setting, out);
    config_free(config);
    assert_int_equal(fclose(out), 0);
    assert_null(strstr(shown, "s3cret"));
    free(shown);
}

// Whatever a file is cut to or has in it, it loads or it is refused in one line.
static void test_any_file(void **state)
{
    (void)state;
    static const char text[] =
        "upstream: {uri: 'mongodb://a:s3cret@h', maxConnections: 4}\n"
        "net:\n  bindIp: ['::1', \"127.0.0.1\"]\n  tls: &t {mode: disabled}\n";
    static const char odd[] = {'\0', '\n', '{', '&', '\x80', '\'', ':', '\t', '*'};
    char *const env[] = {NULL};
    for (size_t at = 0; at < sizeof text - 1; at++) {
        for (size_t o = 0; o <= sizeof odd; o++) {
            char changed[sizeof text], error[CONFIG_ERROR_BYTES] = "";
            memcpy(changed, text, sizeof text);
            if (o < sizeof odd) {
                changed[at] = odd[o];
            }
            write_file(changed, o < sizeof odd ? sizeof text - 1 : at);
            const char *argv[] = {"weir", "--config", path, NULL};
            struct config *config = config_load(3, (char *const *)argv, env, error);
            assert_int_equal(config == NULL, error[0] != '\0');
            assert_null(strpbrk(error, "\n\r"));
            config_free(config);
        }
    }
}

static char *print(void (*what)(FILE *out))
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    what(out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static char *read_page(void)
{
    FILE *file = fopen(WEIR_SOURCE_DIR "/docs/configuration.md", "re");
    assert_non_null(file);
    char *text = (char *)calloc(1, 1 << 17);
    assert_true(fread(text, 1, (1 << 17) - 1, file) > 0);
    assert_int_equal(fclose(file), 0);
    return text;
}

// If this fails: build/weir --print-reference > docs/configuration.md
static void test_reference_page(void **state)
{
    (void)state;
    char *made = print(config_print_reference), *page = read_page();
    assert_string_equal(page, made);
    free(made);
    free(page);
}

static void test_example_on_page(void **state)
{
    (void)state;
    char *page = read_page();
    char *example = strstr(page, "```yaml\n");
    assert_non_null(example);
    example += strlen("```yaml\n");
    *strstr(example, "```") = '\0';
    struct start start = {.file = example};
    struct config *config = load_fine(&start);
    assert_int_equal(config->max_connections, 40);
    config_free(config);
    free(page);
}

static void test_help(void **state)
{
    (void)state;
    char *help = print(config_print_help);
    for (char *line = strtok(help, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        assert_true(strlen(line) <= 84);
    }
    free(help);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_flags),
        cmocka_unit_test(test_bad_uri),
        cmocka_unit_test(test_bad_variables),
        cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_remote),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_empty_files),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_variables_of_others),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_each_that_was_given),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_url_masks),
        cmocka_unit_test(test_mask_cuts),
        cmocka_unit_test(test_each_masks),
        cmocka_unit_test(test_any_file),
        cmocka_unit_test(test_bad_rules),
        cmocka_unit_test(test_too_many_rules),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_nets),
        cmocka_unit_test(test_reference_page),
        cmocka_unit_test(test_example_on_page),
        cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
