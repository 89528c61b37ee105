package build

import (
	"fmt"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
)

// secretScan is what happens to steps that leave secrets: what is asked for, or else what
// the Dockerfile says.
func secretScan(asked dag.SecretScan, file *parser.File) (dag.SecretScan, error) {
	scan := dag.SecretScanDefault
	for _, s := range file.Settings {
		if s.Name != "secret-scan" {
			continue
		}
		var ok bool
		if scan, ok = dag.ParseSecretScan(s.Value); !ok {
			return scan, &parser.Error{
				File: file.Name, Source: file.Source, Start: s.Line, End: s.Line, Part: s.Value,
				Msg: fmt.Sprintf("secret-scan=%s: want error, warn or off", s.Value),
			}
		}
	}
	if asked != dag.SecretScanDefault {
		scan = asked
	}
	return scan, nil
}
