package dag

import "slices"

// Rule names a check of what a step finds while it runs: something that is done as
// asked, and that whoever asked may not have meant (docs/LINT.md).
type Rule string

// The rules.
const (
	RuleSourceReplaced Rule = "CopySourceReplaced" // a file of one source took the place of another's
	RuleOwnerUnknown   Rule = "CopyOwnerUnknown"   // the image does not know a user or group
)

// Description says in a sentence what the rule is about.
func (r Rule) Description() string {
	switch r {
	case RuleSourceReplaced:
		return "Of several sources that are copied to one path the last one stays"
	case RuleOwnerUnknown:
		return "A user or group that the image does not know is root's for COPY and ADD"
	}
	return ""
}

// Checks say which findings of a step count.
type Checks struct {
	// Rules are those that are not skipped.
	Rules []Rule
	// Fail says that a finding makes the step fail.
	Fail bool
}

// Count reports whether a finding of a rule counts.
func (c Checks) Count(r Rule) bool { return slices.Contains(c.Rules, r) }
