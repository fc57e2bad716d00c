//! Templates as docker's users write them.

use serde_json::json;

use super::Template;

fn render(template: &str) -> String {
    let value = json!({
        "ID": "4bcff63911fc",
        "Name": "/web",
        "Size": 1234,
        "Empty": "",
        "Tags": ["a:1", "b:2"],
        "Config": { "Labels": { "x": "1", "dotted.key": "2" }, "Env": ["PATH=/bin", "A=b"], "Tty": false,
            "ExposedPorts": { "53/udp": {}, "80/tcp": {} }, "WorkingDir": "" },
        "State": { "Running": true, "ExitCode": 0, "OOMKilled": false },
        "Nothing": null,
        "Entrypoint": null,
        "Volumes": null,
    });
    match Template::parse(template).and_then(|template| template.render(&value)) {
        Ok(text) => text,
        Err(error) => error.to_string(),
    }
}

// Expected values: Go's text/template with docker's functions (docker 28.2 on the same JSON).
#[test]
fn templates_give_what_go_gives() {
    for (template, expected) in [
        ("plain", "plain"),
        ("{{.ID}}", "4bcff63911fc"),
        ("{{ .ID }}:{{.Size}}", "4bcff63911fc:1234"),
        ("{{.State.Running}} {{.State.ExitCode}}", "true 0"),
        ("{{.Config.Env}}", "[PATH=/bin A=b]"),
        ("{{.Config.Labels}}", "map[dotted.key:2 x:1]"),
        ("{{json .Tags}}", r#"["a:1","b:2"]"#),
        ("{{.Tags | json}}", r#"["a:1","b:2"]"#),
        ("{{json .Config.Labels}}", r#"{"dotted.key":"2","x":"1"}"#),
        ("{{range .Tags}}{{.}};{{end}}", "a:1;b:2;"),
        ("{{range $i, $t := .Tags}}{{$i}}={{$t}} {{end}}", "0=a:1 1=b:2 "),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "dotted.key=2 x=1 "),
        ("{{range .Empty2}}{{end}}", "bad --format template: no field `Empty2`; did you mean `.Empty`?"),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{range .Tags}}{{if eq . \"a:1\"}}{{continue}}{{end}}{{.}}{{break}}{{end}}", "b:2"),
        ("{{if .Empty}}a{{else if .State.Running}}b{{else}}c{{end}}", "b"),
        ("{{if and .State.Running (not .Config.Tty)}}yes{{end}}", "yes"),
        ("{{if or .Empty .Nothing}}yes{{else}}no{{end}}", "no"),
        ("{{with .Config}}{{.Tty}}{{end}}", "false"),
        ("{{with .Empty}}{{.}}{{else}}-{{end}}", "-"),
        ("{{with $e := .Config.Env}}{{len $e}}{{end}}", "2"),
        ("{{len .Tags}} {{len .ID}}", "2 12"),
        ("{{index .Tags 1}}", "b:2"),
        ("{{index .Config.Labels \"dotted.key\"}}", "2"),
        ("{{(index .Config.Env 0)}}", "PATH=/bin"),
        ("{{join .Tags \",\"}}", "a:1,b:2"),
        ("{{index (split .Name \"/\") 1}}", "web"),
        ("{{upper .ID}} {{lower \"ABC\"}} {{title \"one two\"}}", "4BCFF63911FC abc One Two"),
        ("{{.ID | upper | printf \"%-14s|\"}}", "4BCFF63911FC  |"),
        (
            "{{printf \"%s is %d (%05d) %.2f %q\" .Name .Size .Size 1.5 .ID}}",
            "/web is 1234 (01234) 1.50 \"4bcff63911fc\"",
        ),
        ("{{println .ID \"x\"}}", "4bcff63911fc x\n"),
        ("{{slice .ID 0 4}} {{truncate .ID 3}} [{{pad .Name 1 2}}]", "4bcf 4bc [ /web  ]"),
        ("{{$x := .ID}}{{$x}}{{$.Size}}", "4bcff63911fc1234"),
        ("{{$l := \"\"}}{{range .Tags}}{{$l = .}}{{end}}{{$l}}", "b:2"),
        ("a {{- .Size -}} b", "a1234b"),
        ("{{/* a }} comment */}}x", "x"),
        ("{{\"a\\tb\"}}{{`c\\d`}}", "a\tbc\\d"),
        ("{{eq .Size 1 2 1234}} {{lt 1 2}} {{ge \"b\" \"a\"}} {{ne 1 1.0}}", "true true true false"),
        ("{{.Nothing}} {{.Nothing.More}}", "<no value> <no value>"),
        ("{{.Entrypoint}} {{.Volumes}} {{len .Entrypoint}} {{json .Entrypoint}}", "[] map[] 0 null"),
        ("{{.Config.Labels.none}} [{{index .Config.Labels \"none\"}}]", "<no value> []"),
        (
            "{{printf \"%x %X %x %o %b %c|%6x|\" .Size .Size .Name 8 5 97 255}}",
            "4d2 4D2 2f776562 10 101 a|    ff|",
        ),
        ("{{print 1 2 \"a\" \"b\" 3}} {{0x10}}", "1 2ab3 16"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{with .State}}{{.Health}} {{json .Health}}{{end}}", "<nil> null"),
        ("{{.Config.Healthcheck}} {{.Config.Shell}} {{.Config.Volumes}}", "<nil> [] map[]"),
        ("{{.Config.ExposedPorts}}", "map[53/udp:{} 80/tcp:{}]"),
        ("{{html \"<a&b>\"}} {{urlquery \"a b/c\"}}", "&lt;a&amp;b&gt; a+b%2Fc"),
    ] {
        assert_eq!(render(template), expected, "{template}");
    }
}

#[test]
fn mistakes_are_named() {
    for (template, expected) in [
        ("{{.Foo", "`{{.Foo` has no closing `}}`"),
        ("{{foo .ID}}", "function `foo` is not defined"),
        ("{{ID}}", "function `ID` is not defined; a field is written `.ID`"),
        ("{{.id}}", "no field `id`; did you mean `.ID`?"),
        ("{{.ID.Foo}}", "can't take field `Foo` of `4bcff63911fc`"),
        ("{{if .ID}}x", "`{{if}}` has no `{{end}}`"),
        ("x{{end}}", "`{{end}}` without a block to end"),
        ("{{else}}", "`{{else}}` without an `{{if}}`"),
        ("{{}}", "missing value in `{{…}}`"),
        ("{{.ID | }}", "missing value in `{{…}}`"),
        ("{{(.ID}}", "`(` has no `)`"),
        ("{{.ID)}}", "unexpected `)`"),
        ("{{.ID .Size}}", "a value can't be given arguments; only functions take them"),
        ("{{.Label \"a\"}}", "no field `Label`"),
        ("{{index .Tags 9}}", "`index`: 9 is out of range of 2 items"),
        ("{{$x}}", "undefined variable `$x`"),
        ("{{break}}", "`{{break}}` outside of `{{range}}`"),
        ("{{template \"x\"}}", "`template` is not supported in --format"),
        ("{{\"open}}", "`{{\"open}}` has no closing `}}`"),
        ("{{pad .ID 1 99999999}}", "a length must be a small whole number"),
        ("{{join .ID \",\"}}", "`join`: `4bcff63911fc` is not a list"),
        ("{{.ID ? }}", "unexpected `?` in `{{.ID ?}}`"),
    ] {
        assert_eq!(render(template), format!("bad --format template: {expected}"), "{template}");
    }
}

#[test]
fn deep_nesting_is_refused_and_not_a_stack_overflow() {
    let blocks = "{{if .ID}}".repeat(10_000);
    assert!(render(&blocks).contains("nest too deep"));
    let parentheses = format!("{{{{{}}}}}", "(".repeat(10_000));
    assert!(render(&parentheses).contains("nest too deep"));
}
