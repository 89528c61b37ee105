// Package format prints values as docker's --format does.
package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/template"
	"unicode"

	"layered.build/builder/parser/mistake"
)

// Print prints values as docker inspect does with --format: with "json" all in one
// line, else each by a Go template, which sees its fields, or their names in JSON. What is wrong with the template is a
// *mistake.Error.
func Print(w io.Writer, how string, values []any) error {
	if how == "json" {
		return JSON(w, values, "")
	}
	t, err := template.New("").Funcs(templateFuncs()).Parse(how)
	if err != nil {
		return mistake.New("--format: %s", strings.TrimPrefix(err.Error(), "template: "))
	}
	for _, v := range values {
		text, err := execute(t, v)
		if err != nil {
			return mistake.New("--format: %s", strings.TrimPrefix(err.Error(), "template: "))
		}
		if _, err := fmt.Fprintf(w, "%s\n", text); err != nil {
			return err
		}
	}
	return nil
}

// execute runs a template on a value, and if that has no such fields on what its JSON has.
func execute(t *template.Template, v any) ([]byte, error) {
	var out bytes.Buffer
	err := t.Execute(&out, v)
	if err == nil {
		return out.Bytes(), nil
	}
	raw, jerr := json.Marshal(v)
	if jerr != nil {
		return nil, jerr
	}
	var fields any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&fields); err != nil {
		return nil, err
	}
	out.Reset()
	if t.Option("missingkey=error").Execute(&out, fields) != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// templateFuncs are docker's functions beside Go's own.
func templateFuncs() template.FuncMap {
	return template.FuncMap{
		"json": func(v any) (string, error) {
			var out strings.Builder
			err := JSON(&out, v, "")
			return strings.TrimSuffix(out.String(), "\n"), err
		},
		"split": strings.Split,
		"join":  joinElements,
		"title": func(s string) string {
			r := []rune(s)
			if len(r) > 0 {
				r[0] = unicode.ToTitle(r[0])
			}
			return string(r)
		},
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"pad": func(s string, before, after int) string {
			if s == "" {
				return s
			}
			return strings.Repeat(" ", max(0, before)) + s + strings.Repeat(" ", max(0, after))
		},
		"truncate": func(s string, n int) string { return s[:min(len(s), max(0, n))] },
	}
}

// joinElements joins the elements of a list of whatever they are.
func joinElements(list any, sep string) (string, error) {
	v := reflect.ValueOf(list)
	if !v.IsValid() {
		return "", nil
	}
	if v.Kind() != reflect.Slice && v.Kind() != reflect.Array {
		return "", fmt.Errorf("join: %T is no list", list)
	}
	var out []string
	for i := range v.Len() {
		out = append(out, fmt.Sprint(v.Index(i).Interface()))
	}
	return strings.Join(out, sep), nil
}

// JSON writes a value, in lines if there is an indent.
func JSON(w io.Writer, v any, indent string) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", indent)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
