-- Region A's primary: the account that mcsqueal uses (its password is docker/secrets/source), the one that the replica uses, and a shop.
CREATE USER 'mcsqueal'@'%' IDENTIFIED BY 'squeak-example';
GRANT REPLICATION SLAVE, REPLICATION CLIENT, SELECT ON *.* TO 'mcsqueal'@'%';
CREATE USER 'replica'@'%' IDENTIFIED BY 'replica-example';
GRANT REPLICATION SLAVE ON *.* TO 'replica'@'%';
CREATE DATABASE shop CHARACTER SET utf8mb4;
CREATE TABLE shop.users (id INT UNSIGNED PRIMARY KEY, email VARCHAR(120) NOT NULL UNIQUE, name VARCHAR(80) NOT NULL);
CREATE TABLE shop.products (id INT UNSIGNED PRIMARY KEY, sku VARCHAR(60) NOT NULL UNIQUE, price_cents INT UNSIGNED NOT NULL, stock INT NOT NULL);
CREATE TABLE shop.orders (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, user_id INT UNSIGNED NOT NULL, status VARCHAR(20) NOT NULL, created DATETIME(3) NOT NULL, KEY (user_id, id));
INSERT INTO shop.users VALUES (1, 'Ann@example.com', 'Ann'), (2, 'bob@example.com', 'Bob');
