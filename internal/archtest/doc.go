// Package archtest holds the rules of which package may import which (docs/ARCHITECTURE.md), as tests. They read the
// import clauses of every Go file in the checkout, whatever its build tags, and fail on an import that the table does not
// list, on a package that it does not know, and on C below the command that people type.
//
// There is nothing to import here.
package archtest
