// Command readme is the program that README.md shows, so that it compiles and does what is said there. A test holds the
// two together word for word.
package main
