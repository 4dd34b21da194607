ppdsm_unit_test(criu_locate_test criu/locate_criu_test.cc criu/tool_output_test.cc LIBS ppdsm_criu_locate)
ppdsm_unit_test(criu_abilities_test criu/abilities_test.cc LIBS ppdsm_criu_locate)
if(TARGET ppdsm_cli_doctor)
  ppdsm_unit_test(doctor_test criu/doctor_test.cc
    LIBS ppdsm_cli_doctor nlohmann_json::nlohmann_json)
endif()
