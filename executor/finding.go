package executor

import (
	"fmt"
	"slices"
	"strings"

	"layered.build/builder/cache"
)

// FindingError says that a step found something that its Dockerfile makes an error
// ("# check=error=true").
type FindingError struct {
	// Found is what was found; never empty.
	Found []cache.Finding
}

// Error implements error.
func (e *FindingError) Error() string {
	var rules, texts []string
	for _, f := range e.Found {
		rules, texts = append(rules, string(f.Rule)), append(texts, f.Text)
	}
	slices.Sort(rules)
	return fmt.Sprintf("lint violation found for rules: %s: %s", strings.Join(slices.Compact(rules), ", "), strings.Join(texts, "; "))
}

// tell reports what a step found, when it ran or at an earlier time, and fails where the
// step asks for that.
func (r *run) tell(n *node, found []cache.Finding) error {
	checks := n.step.Meta.Checks
	found = slices.DeleteFunc(slices.Clone(found), func(f cache.Finding) bool { return !checks.Count(f.Rule) })
	for _, f := range found {
		r.observe(Event{Type: EventWarning, Step: n.step, Rule: f.Rule, Data: []byte(f.Text)})
	}
	if checks.Fail && len(found) > 0 {
		return &FindingError{Found: found}
	}
	return nil
}
