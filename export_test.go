package keycote

// NewValidatorWithoutStrength leaves out the strength estimate, which takes longer than all the rest of Add.
func NewValidatorWithoutStrength() *Validator {
	v := NewValidator(nil)
	v.skipStrength = true
	return v
}
