package format

import (
	"errors"
	"strings"
	"testing"

	"layered.build/builder/parser/mistake"
)

func TestPrint(t *testing.T) {
	type config struct {
		Env    []string
		Labels map[string]string `json:",omitempty"`
	}
	v := struct {
		ID     string `json:"Id"`
		Size   int64
		Config *config
	}{"sha256:ab", 12345678901234567, &config{Env: []string{"A=<1>", "B=2"}}}
	for format, want := range map[string]string{
		"json":                             `[{"Id":"sha256:ab","Size":12345678901234567,"Config":{"Env":["A=<1>","B=2"]}}]`,
		"{{.ID}}":                          "sha256:ab",
		"{{.Id}} {{.Size}}":                "sha256:ab 12345678901234567", // JSON's name
		"{{json .Config.Env}}":             `["A=<1>","B=2"]`,
		`{{join .Config.Env ", "}}`:        "A=<1>, B=2",
		`{{.Id}} {{join .Config.Env ","}}`: "sha256:ab A=<1>,B=2",
		"{{range .Config.Env}}{{println .}}{{end}}": "A=<1>\nB=2\n",
		"{{upper .ID}} {{lower `AB`}}":              "SHA256:AB ab",
		`{{title "ab cd"}}`:                         "Ab cd",
		`{{index (split .ID ":") 1}}`:               "ab",
		`{{pad .ID 1 2}}|{{truncate .ID 3}}`:        " sha256:ab  |sha",
		"{{.Config.Labels.x}}":                      "<no value>",
	} {
		var out strings.Builder
		if err := Print(&out, format, []any{v}); err != nil || out.String() != want+"\n" {
			t.Errorf("%s: %q, %v; want %q", format, out.String(), err, want)
		}
	}
	for format, want := range map[string]string{
		"{{.Nothing}}":    "can't evaluate field Nothing",
		"{{.Size":         "unclosed action",
		"{{nofunc .}}":    `function "nofunc" not defined`,
		"{{.Config.X}}":   "can't evaluate field X",
		`{{join .ID ""}}`: "is no list",
	} {
		var m *mistake.Error
		if err := Print(&strings.Builder{}, format, []any{v}); !errors.As(err, &m) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", format, err, want)
		}
	}
}
