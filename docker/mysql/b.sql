-- Region B's server follows A's, and takes no writes of its own.
STOP REPLICA;
CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'mysql-a', SOURCE_USER = 'replica', SOURCE_PASSWORD = 'replica-example', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1;
START REPLICA;
SET PERSIST super_read_only = ON;
