package mistake

import "strings"

// Nearest is the one of the known names that may have been meant by one that is not among
// them, whatever the case: the only one that begins so, or else one of which few letters
// differ.
func Nearest(name string, known []string) (string, bool) {
	low := strings.ToLower(name)
	var begun []string
	best, bestDistance := "", 1+Farthest(name)
	for _, k := range known {
		if len(name) > 1 && strings.HasPrefix(strings.ToLower(k), low) {
			begun = append(begun, k)
		}
		if d := Distance(low, strings.ToLower(k)); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if len(begun) == 1 && bestDistance > 0 {
		best = begun[0]
	}
	return best, best != ""
}

// Farthest is the greatest Distance of a name from one that may be meant by it.
func Farthest(name string) int { return max(1, len(name)/3) }

// Distance is how many letters have to be changed, added, left out or swapped with
// their neighbour to make b of a.
func Distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now := make([]int, len(b)+1)
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last = last, now
	}
	return last[len(b)]
}
