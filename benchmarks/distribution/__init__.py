"""How closely codes follow the target distribution, and what that costs."""
