# Leaves out of a lock's markers what holds wherever it is for (`environments` in pyproject.toml), so
# that a line has one only where a package is for some of those environments.
/ ; / {
  s/ and python_full_version < '3\.14'//g
  s/python_full_version < '3\.14' and //g
  s/implementation_name == 'cpython' and //g
  s/platform_python_implementation == 'CPython' and //g
  s/ and sys_platform == 'linux'//g
  s/(\([^()]*\) and platform_machine == 'aarch64') or (\1 and platform_machine == 'x86_64')/\1/
  s/ ; (platform_machine == 'aarch64') or (platform_machine == 'x86_64')//
}
