package slurm

import "strings"

// plain holds the characters that mean themselves to bash wherever they stand in a word.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:+@%="

// word writes text as one word of bash.
func word(text string) string {
	if text != "" && strings.Trim(text, plain) == "" && (text[0] == '-' || !strings.Contains(text, "=")) { // a=b would be taken for an assignment
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// words writes each of list as a word.
func words(list []string) string {
	quoted := make([]string, len(list))
	for i, text := range list {
		quoted[i] = word(text)
	}
	return strings.Join(quoted, " ")
}

// directive writes an option of sbatch as it stands behind #SBATCH, where quotes and backslashes are sbatch's own: a backslash
// takes the next character as it is, in quotes too.
func directive(option string) string {
	name, value, found := strings.Cut(option, "=")
	if !found || value != "" && strings.Trim(value, plain) == "" {
		return option
	}
	return name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
}

// Pattern writes a path as Job.Log wants it, so that sbatch replaces nothing in it.
func Pattern(path string) string { return strings.ReplaceAll(path, "%", "%%") }
