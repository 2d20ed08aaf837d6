# NF4_PYTHON   a Python with numpy, empty where there is none
if(NOT DEFINED NF4_PYTHON)
  set(NF4_PYTHON "")
  foreach(python python3 /usr/bin/python3) # the first may be one without the system's packages
    execute_process(COMMAND ${python} -c "import numpy" RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
    if(failed EQUAL 0)
      set(NF4_PYTHON ${python})
      break()
    endif()
  endforeach()
endif()
