// Package examples holds what a newcomer runs and reads first: the demo's model, how it was made, and configurations.
//
// There is nothing to import here; its tests hold that the files fit the program.
package examples
